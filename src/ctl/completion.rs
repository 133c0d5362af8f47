//! Completion of command lines: what shells are told, and what they ask back.
//!
//! Owns: what could come next. Never knows: shells, beyond the few lines that each is given; all the rest is decided here, from the
//! table, so that it is the same in each.

use std::time::Duration;

use crate::ctl::client::Client;
use crate::ctl::failure::Failure;
use crate::ctl::keys::{self, Reading};
use crate::ctl::parse::{self, Asked};
use crate::ctl::settings::Settings;
use crate::ctl::table::{API_VARIABLE, Api, Argument, Command, Flag, Kind, SHELLS, V2, V3};
use crate::ctl::v3;

/// The word that shells ask with; no command is called so.
pub(super) const QUESTION: &str = "__complete";

/// Someone waits with a finger on the key.
const KEYS_MAX: Duration = Duration::from_millis(1500);
/// No shell shows more of them well.
const CANDIDATES_MAX: usize = 1000;

/// What a shell is to run.
///
/// # Errors
/// When it is none that is known.
pub(super) fn script(shell: &str) -> Result<String, Failure> {
    let script = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        other => {
            return Err(Failure::line(format!(
                "no completion for {other:?}: choose one of {}",
                SHELLS.join(", ")
            )));
        }
    };
    Ok(script.to_owned())
}

// Each hands over the words up to the cursor, the last perhaps empty. The answer has one candidate a line; `:file` asks for names
// of files instead. A candidate with a slash or an equals sign at its end goes on, and no blank follows it.

const BASH: &str = r#"_cairn_ctl() {
    local IFS=$'\n' answer word="${COMP_WORDS[COMP_CWORD]}"
    answer=$("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
    if [[ $answer == :file ]]; then
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "$word"))
        return
    fi
    COMPREPLY=($answer)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _cairn_ctl etcdctl cairnctl
"#;

const ZSH: &str = r#"#compdef etcdctl cairnctl
_cairn_ctl() {
    local answer candidate
    local -a candidates=()
    answer=$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null) || return
    if [[ $answer == :file ]]; then
        _files
        return
    fi
    for candidate in ${(f)answer}; do
        if [[ $candidate == */ ]]; then
            compadd -S '' -- "$candidate"
        else
            candidates+=("$candidate")
        fi
    done
    compadd -a candidates
}
compdef _cairn_ctl etcdctl cairnctl
"#;

const FISH: &str = r#"function __cairn_ctl
    set -l words (commandline -opc) (commandline -ct)
    set -l answer ($words[1] __complete $words[2..-1] 2>/dev/null)
    if test "$answer" = :file
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answer
    end
end
complete -c etcdctl -f -a '(__cairn_ctl)'
complete -c cairnctl -f -a '(__cairn_ctl)'
"#;

/// What the last word could become.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// One of these.
    Words(Vec<String>),
    /// A file.
    File,
    /// A key.
    Key,
}

/// Answers a shell; `words` are those up to the cursor.
pub(super) async fn answer(words: &[String], variables: &[(String, String)]) -> String {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", words),
    };
    let api = api(variables);
    match next(api, before, last) {
        Next::File => ":file\n".to_owned(),
        Next::Words(candidates) => lines(candidates, last),
        Next::Key => {
            let keys = async {
                match api.version {
                    3 => v3::keys_below(before, last, variables).await,
                    _ => keys_below(before, last, variables).await,
                }
            };
            let keys = tokio::time::timeout(KEYS_MAX, keys).await;
            lines(keys.ok().flatten().unwrap_or_default(), last)
        }
    }
}

/// The version whose words are completed.
fn api(variables: &[(String, String)]) -> &'static Api {
    let said = variables.iter().find(|(name, _)| name == API_VARIABLE);
    if said.is_some_and(|(_, value)| value == "3") { &V3 } else { &V2 }
}

fn lines(candidates: Vec<String>, begin: &str) -> String {
    let fits = |candidate: &String| {
        // A line is a candidate, and a terminal shows it.
        candidate.starts_with(begin) && !candidate.contains(char::is_control)
    };
    let candidates = candidates.into_iter().filter(fits).take(CANDIDATES_MAX);
    candidates.map(|candidate| format!("{candidate}\n")).collect()
}

/// Where in a command line one is.
enum Place {
    /// The command is yet to come; perhaps that of a group.
    Command(&'static str),
    /// Behind this command, with so many arguments.
    Arguments(&'static Command, usize),
}

fn next(api: &'static Api, before: &[String], last: &str) -> Next {
    let (mut place, mut ended) = (Place::Command(""), false);
    let mut words = before.iter();
    while let Some(word) = words.next() {
        if !ended && word == "--" {
            ended = true;
            continue;
        }
        if !ended && word.len() > 1 && word.starts_with('-') {
            let takes_next = !word.contains('=')
                && found(api, &place, word).is_some_and(|flag| flag.kind != Kind::Switch);
            if takes_next && words.next().is_none() {
                return found(api, &place, word).map_or(Next::Words(Vec::new()), values);
            }
            continue;
        }
        place = match place {
            Place::Command(group) => {
                let name = if group.is_empty() { word.clone() } else { format!("{group} {word}") };
                let inner = api.groups.iter().find(|known| group.is_empty() && known.name == word);
                match (api.command(&name), inner) {
                    (Some(command), _) => Place::Arguments(command, 0),
                    (None, Some(inner)) => Place::Command(inner.name),
                    (None, None) => return Next::Words(Vec::new()),
                }
            }
            Place::Arguments(command, count) => Place::Arguments(command, count + 1),
        };
    }
    if !ended && last.starts_with('-') {
        return Next::Words(flags(api, &place).flat_map(spellings).collect());
    }
    match place {
        Place::Command(group) => {
            let commands = api.commands_of(group).map(|(name, _)| name.to_owned());
            let groups =
                api.groups.iter().filter(|_| group.is_empty()).map(|group| group.name.to_owned());
            Next::Words(commands.chain(groups).chain(["help".to_owned()]).collect())
        }
        Place::Arguments(command, count) => match command.arguments.get(count) {
            Some(Argument::Key) => Next::Key,
            Some(Argument::File) => Next::File,
            Some(Argument::Shell) => {
                Next::Words(SHELLS.iter().map(|&shell| shell.to_owned()).collect())
            }
            Some(Argument::Other) | None => Next::Words(Vec::new()),
        },
    }
}

fn flags(api: &'static Api, place: &Place) -> impl Iterator<Item = &'static Flag> + use<> {
    let (own, always) = match place {
        Place::Command(_) => (&[][..], api.always),
        Place::Arguments(command, _) => (command.flags, api.help),
    };
    own.iter().chain(api.globals).chain(always)
}

fn found(api: &'static Api, place: &Place, word: &str) -> Option<&'static Flag> {
    let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    flags(api, place).find(|flag| flag.names.contains(&name))
}

fn spellings(flag: &'static Flag) -> impl Iterator<Item = String> {
    flag.names.iter().map(|name| format!("{}{name}", if name.len() == 1 { "-" } else { "--" }))
}

fn values(flag: &'static Flag) -> Next {
    match flag.kind {
        Kind::File => Next::File,
        Kind::Choice(words) => Next::Words(words.iter().map(|&word| word.to_owned()).collect()),
        Kind::Switch | Kind::Text | Kind::Texts | Kind::Number | Kind::Duration => {
            Next::Words(Vec::new())
        }
    }
}

/// Keys that begin so; directories with a slash behind them.
async fn keys_below(
    before: &[String],
    begin: &str,
    variables: &[(String, String)],
) -> Option<Vec<String>> {
    let Ok(Asked::Do(line)) = parse::line(before) else { return None };
    let settings = Settings::new(&line.said, variables);
    if settings.asks_for_a_password() {
        // While a shell completes a word, no password can be typed.
        return None;
    }
    let mut client = Client::unsynced(&settings).await.ok()?;
    let dir = begin.rsplit_once('/').map_or("/", |(dir, _)| dir);
    let reading = Reading { sorted: true, ..Reading::default() };
    let event = keys::ask(&mut client, &keys::get(dir, reading)).await.ok()?;
    let name = |key: String, is_dir: bool| {
        let key = if begin.starts_with('/') { key } else { key.trim_start_matches('/').to_owned() };
        if is_dir { format!("{key}/") } else { key }
    };
    let below = event.node.nodes.into_iter().flatten();
    Some(below.map(|node| name(node.key, node.dir)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What could follow these words; the last may be unfinished.
    fn after(text: &str) -> Next {
        after_in(&V2, text)
    }

    fn after_in(api: &'static Api, text: &str) -> Next {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().unwrap();
        match next(api, before, last) {
            Next::Words(words) => {
                Next::Words(words.into_iter().filter(|word| word.starts_with(last)).collect())
            }
            other @ (Next::File | Next::Key) => other,
        }
    }

    fn words(text: &str) -> Next {
        Next::Words(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn what_comes_next_is_from_the_table() {
        assert_eq!(after("upd"), words("update updatedir"));
        assert_eq!(after("member "), words("list add remove update help"));
        assert_eq!(after("-C http://a:1 use"), words("user"));
        assert_eq!(after("ls --rec"), words("--recursive"));
        assert_eq!(after("rm --with"), words("--with-value --with-index"));
        assert_eq!(after("-o "), words("simple extended json"));
        assert_eq!(after("ls -w t"), words("table"));
        assert_eq!(after("--ca-file "), Next::File);
        assert_eq!(after("import "), Next::File);
        assert_eq!(after("completion z"), words("zsh"));
        assert_eq!(after("frob "), words(""));
    }

    #[test]
    fn keys_come_next_where_a_command_takes_one() {
        for text in ["get ", "get /a", "ls -r /", "set --ttl 5 /", "watch -- -"] {
            assert_eq!(after(text), Next::Key, "{text}");
        }
        for text in ["get /a ", "set /a ", "member remove "] {
            assert_eq!(after(text), words(""), "{text}");
        }
    }

    #[test]
    fn every_command_can_be_completed() {
        for api in [&V2, &V3] {
            for command in api.commands {
                let (group, word) = match command.name.split_once(' ') {
                    Some((group, word)) => (format!("{group} "), word),
                    None => (String::new(), command.name),
                };
                let line = format!("{group}{word}");
                let Next::Words(found) = after_in(api, &line) else { panic!("{word}") };
                assert!(found.iter().any(|found| found == word), "{}", command.name);
            }
        }
        assert_eq!(after_in(&V3, "get --sort-by V"), words("VALUE VERSION"));
        assert_eq!(after_in(&V3, "endpoint status --cl"), words("--cluster"));
    }

    #[test]
    fn no_line_is_two_candidates() {
        let keys = ["/a", "/b\nrm", "/c"].map(str::to_owned).to_vec();
        assert_eq!(lines(keys, "/"), "/a\n/c\n");
    }
}
