//! `auth` and `user`.

use std::io::BufRead as _;

use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::terminal;
use crate::ctl::v3::commands::{Job, roles, wrong};
use crate::ctl::v3::refused;
use crate::ctl::values;
use crate::rpc::status::{ROLE_EXISTS, ROOT_ROLE_MISSING};
use crate::rpc::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGetRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, UserAddOptions,
};

const ROOT: &str = "root";

pub(super) async fn enable(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments("auth enable command does not accept any arguments")?;
    let (client, _) = job.client().await?;
    let enable = async || client.ask(&AuthEnableRequest {}, job.terms()).await;
    let mut asked = enable().await;
    if asked.as_ref().is_err_and(|status| *status == ROOT_ROLE_MISSING) {
        let role = AuthRoleAddRequest { name: ROOT.to_owned() };
        match client.ask(&role, job.terms()).await {
            Err(status) if status != ROLE_EXISTS => return Err(refused(&status)),
            Ok(_) | Err(_) => {}
        }
        let grant = AuthUserGrantRoleRequest { user: ROOT.to_owned(), role: ROOT.to_owned() };
        job.ask(&client, &grant).await?;
        asked = enable().await;
    }
    asked.map_err(|status| refused(&status))?;
    print::out("Authentication Enabled\n")
}

pub(super) async fn disable(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments("auth disable command does not accept any arguments")?;
    let (client, _) = job.client().await?;
    job.ask(&client, &AuthDisableRequest {}).await?;
    print::out("Authentication Disabled\n")
}

/// Typed twice, or read as the first word of standard input.
fn typed_password(job: &Job<'_>, name: &str) -> Result<String, Failure> {
    let interactive =
        job.said.text("interactive").is_none_or(|text| values::switch(text).unwrap_or(true));
    if !interactive {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        read.map_err(|why| wrong(&format!("Error reading password: {why}")))?;
        return Ok(line.split_whitespace().next().unwrap_or_default().to_owned());
    }
    let password = terminal::password(&format!("Password of {name}: "))?;
    let again = format!("Type password of {name} again for confirmation: ");
    match terminal::password(&again)? == password {
        true => Ok(password),
        false => Err(wrong("given passwords are different")),
    }
}

pub(super) async fn add(job: &Job<'_>) -> Result<(), Failure> {
    let said = job.argument("user add command requires user name as its argument")?;
    let given = job.said.text("new-user-password").unwrap_or_default();
    let no_password = job.said.is_on("no-password");
    let (name, password) = match said.split_once(':') {
        _ if no_password => (said, String::new()),
        _ if !given.is_empty() => (said, given.to_owned()),
        Some(("", _)) => return Err(wrong("empty user name is not allowed")),
        Some((name, password)) => (name, password.to_owned()),
        None => (said, typed_password(job, said)?),
    };
    let (client, printer) = job.client().await?;
    let request = AuthUserAddRequest {
        name: name.to_owned(),
        password,
        options: Some(UserAddOptions { no_password }),
        ..AuthUserAddRequest::default()
    };
    let answer = job.ask(&client, &request).await?;
    printer.plain(&answer, answer.header.as_ref(), &format!("User {name} created\n"))
}

pub(super) async fn delete(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument("user delete command requires user name as its argument")?;
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &AuthUserDeleteRequest { name: name.to_owned() }).await?;
    printer.plain(&answer, answer.header.as_ref(), &format!("User {name} deleted\n"))
}

pub(super) async fn get(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument("user get command requires user name as its argument")?;
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &AuthUserGetRequest { name: name.to_owned() }).await?;
    if !job.said.is_on("detail") {
        let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
        let simple = format!("User: {name}\nRoles:{roles}\n");
        return printer.answer(&answer, simple.as_bytes(), |_| false);
    }
    print::out(&format!("User: {name}\n"))?;
    for role in &answer.roles {
        print::out("\n")?;
        let answer = job.ask(&client, &AuthRoleGetRequest { role: role.clone() }).await?;
        roles::print(&printer, role, &answer)?;
    }
    Ok(())
}

pub(super) async fn list(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments("user list command requires no arguments")?;
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &AuthUserListRequest {}).await?;
    let simple: String = answer.users.iter().map(|user| format!("{user}\n")).collect();
    printer.answer(&answer, simple.as_bytes(), |_| false)
}

pub(super) async fn password(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument("user passwd command requires user name as its argument")?;
    let password = typed_password(job, name)?;
    let (client, printer) = job.client().await?;
    let request = AuthUserChangePasswordRequest {
        name: name.to_owned(),
        password,
        ..AuthUserChangePasswordRequest::default()
    };
    let answer = job.ask(&client, &request).await?;
    printer.plain(&answer, answer.header.as_ref(), "Password updated\n")
}

pub(super) async fn grant(job: &Job<'_>) -> Result<(), Failure> {
    let [user, role] = job.arguments else {
        return Err(wrong("user grant command requires user name and role name as its argument"));
    };
    let (client, printer) = job.client().await?;
    let request = AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let answer = job.ask(&client, &request).await?;
    let simple = format!("Role {role} is granted to user {user}\n");
    printer.plain(&answer, answer.header.as_ref(), &simple)
}

pub(super) async fn revoke(job: &Job<'_>) -> Result<(), Failure> {
    let [user, role] = job.arguments else {
        return Err(wrong("user revoke-role requires user name and role name as its argument"));
    };
    let (client, printer) = job.client().await?;
    let request = AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
    let answer = job.ask(&client, &request).await?;
    let simple = format!("Role {role} is revoked from user {user}\n");
    printer.plain(&answer, answer.header.as_ref(), &simple)
}
