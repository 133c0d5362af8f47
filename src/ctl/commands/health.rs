//! `cluster-health`.
//!
//! Owns: when a cluster counts as healthy. Never knows: when a member does; it says so itself.

use std::time::Duration;

use serde::Deserialize;

use crate::ctl::client::{Answer, Client};
use crate::ctl::commands::Job;
use crate::ctl::failure::{Failure, code};
use crate::ctl::print;
use crate::ctl::wire::Member;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(10);

/// Asks each member; returns the exit code.
pub(super) async fn run(job: &Job<'_>) -> Result<u8, Failure> {
    let client = &mut Client::unsynced(job.settings).await?;
    client.show_endpoints();
    let listed = client.within_total(Client::members).await;
    let mut members = match listed {
        Ok(members) => members.members,
        Err(error) => {
            print::out("cluster may be unhealthy: failed to list members\n")?;
            return Err(Failure::keys(code::SERVER, error));
        }
    };
    loop {
        let mut healthy = 0;
        for member in &members {
            healthy += usize::from(is_healthy(client, member).await?);
        }
        let word = match healthy {
            all if all == members.len() => "healthy",
            0 => "unavailable",
            _ => "degraded",
        };
        print::out(&format!("cluster is {word}\n"))?;
        if !job.said.is_on("forever") {
            return Ok(if healthy == members.len() { 0 } else { code::NOT_HEALTHY });
        }
        print::out("\nnext check after 10 second...\n\n")?;
        tokio::time::sleep(PAUSE).await;
        // Members may have joined or left; if none lists them, the known ones are asked again.
        if let Ok(now) = client.within_total(Client::members).await {
            members = now.members;
        }
    }
}

/// The first of its URLs that says anything decides.
async fn is_healthy(client: &Client, member: &Member) -> Result<bool, Failure> {
    let id = &member.id;
    if member.client_urls.is_empty() {
        print::out(&format!("member {id} is unreachable: no available published client urls\n"))?;
        return Ok(false);
    }
    for url in &member.client_urls {
        let asked = format!("{}/health", url.trim_end_matches('/'));
        let said = client.read_url(&asked).await;
        let said = said.map_err(|error| format!("Get {asked:?}: {error}"));
        match said.and_then(|answer| says_healthy(&answer)) {
            Ok(true) => {
                print::out(&format!("member {id} is healthy: got healthy result from {url}\n"))?;
                return Ok(true);
            }
            Ok(false) => {
                print::out(&format!(
                    "member {id} is unhealthy: got unhealthy result from {url}\n"
                ))?;
                return Ok(false);
            }
            Err(why) => {
                print::out(&format!("failed to check the health of member {id} on {url}: {why}\n"))?
            }
        }
    }
    let urls = member.client_urls.join(" ");
    print::out(&format!("member {id} is unreachable: [{urls}] are all unreachable\n"))?;
    Ok(false)
}

/// etcd writes the word as text, others as a truth value.
fn says_healthy(answer: &Answer) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Health {
        #[serde(default)]
        health: serde_json::Value,
    }
    let health: Health = answer.read().map_err(|error| error.to_string())?;
    Ok(health.health == "true" || health.health == true)
}
