//! `alarm`, `defrag`, `move-leader`.

use std::fmt::Write as _;

use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::v3::commands::{Job, complain, endpoints, hex_u64, wrong};
use crate::ctl::v3::{code, error, refused, words};
use crate::rpc::status::AUTH_FAILED;
use crate::rpc::{
    AlarmAction, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, MoveLeaderRequest,
    StatusRequest,
};

/// As Go names it.
fn alarm_name(number: i32) -> String {
    let known = [AlarmType::None, AlarmType::NoSpace, AlarmType::Corrupt];
    match known.into_iter().find(|alarm| *alarm as i32 == number) {
        Some(AlarmType::None) => "NONE".to_owned(),
        Some(AlarmType::NoSpace) => "NOSPACE".to_owned(),
        Some(AlarmType::Corrupt) => "CORRUPT".to_owned(),
        None => number.to_string(),
    }
}

fn print_alarms(job: &Job<'_>, answer: &AlarmResponse) -> Result<(), Failure> {
    let (mut simple, mut fields) = (String::new(), String::new());
    for alarm in &answer.alarms {
        let name = alarm_name(alarm.alarm);
        let _ = writeln!(simple, "memberID:{} alarm:{name} ", alarm.member_id);
        let _ = write!(fields, "\"MemberID\" : {}\n\"AlarmType\" : {name}\n\n", alarm.member_id);
    }
    // There is no head in this answer.
    job.printer()?.answer(answer, simple.as_bytes(), |text| {
        text.push_str(&fields);
        true
    })
}

pub(super) async fn alarms(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments("alarm list command accepts no arguments")?;
    let (client, _) = job.client().await?;
    let answer = job.ask(&client, &AlarmRequest::default()).await?;
    print_alarms(job, &answer)
}

pub(super) async fn disarm(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments("alarm disarm command accepts no arguments")?;
    let (client, _) = job.client().await?;
    let raised = job.ask(&client, &AlarmRequest::default()).await?;
    let mut taken_back = AlarmResponse::default();
    for alarm in raised.alarms {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        taken_back.alarms.extend(job.ask(&client, &request).await?.alarms);
    }
    print_alarms(job, &taken_back)
}

pub(super) async fn defragment(job: &Job<'_>) -> Result<(), Failure> {
    if job.said.text("data-dir").is_some_and(|dir| !dir.is_empty()) {
        let why = "a directory that no member uses need not be defragmented: leave out --data-dir";
        return Err(error(code::ERROR, why));
    }
    let (client, _) = job.client().await?;
    let mut failed = false;
    for endpoint in endpoints::asked(job, &client).await? {
        let name = endpoint.written.clone();
        match client.only(endpoint).ask(&DefragmentRequest {}, job.terms()).await {
            Ok(_) => print::out(&format!("Finished defragmenting etcd member[{name}]\n"))?,
            Err(status) if status == AUTH_FAILED => return Err(refused(&status)),
            Err(status) => {
                failed = true;
                complain(&format!("Failed to defragment etcd member[{name}] ({})", words(&status)));
            }
        }
    }
    if failed { Err(Failure::code(code::ERROR)) } else { Ok(()) }
}

pub(super) async fn move_leader(job: &Job<'_>) -> Result<(), Failure> {
    let word = job.argument("move-leader command needs 1 argument")?;
    let target_id = hex_u64(word).map_err(|why| wrong(&why))?;
    let (client, printer) = job.client().await?;
    let mut leader = None;
    for endpoint in client.endpoints().to_vec() {
        let only = client.only(endpoint);
        let status = job.ask(&only, &StatusRequest {}).await?;
        let id = status.header.as_ref().map_or(0, |header| header.member_id);
        if id == status.leader {
            leader = Some((only, id));
            break;
        }
    }
    let Some((only, leader)) = leader else {
        let named: Vec<_> = client.endpoints().iter().map(|at| at.written.as_str()).collect();
        return Err(wrong(&format!("no leader endpoint given at [{}]", named.join(" "))));
    };
    let answer = job.ask(&only, &MoveLeaderRequest { target_id }).await?;
    let simple = format!("Leadership transferred from {leader:16x} to {target_id:16x}\n");
    printer.answer(&answer, simple.as_bytes(), |_| false)
}
