//! What `--help` prints: the words before, and the table of flags.

use std::fmt::Write as _;

use crate::config::flags::{SECTIONS, Status};

/// What `--help` prints.
pub(super) fn text() -> String {
    let mut text = "Usage: cairn [flags]\n       cairn config check|print [FILE] [flags]\n       cairn health [--endpoint URL]\n       cairn bench LOAD [flags]\n       \
                    cairn backup [flags] FILE\n       cairn restore [flags] FILE --data-dir DIR\n       \
                    cairn verify [flags] FILE or DIR\n       cairn migrate [flags] --from ETCD_DATA_DIR --data-dir DIR\n       \
                    cairn export [flags] FILE or DIR --data-dir ETCD_DATA_DIR\n\n\
                    Each --flag can be set by a variable as well: ETCD_FLAG or CAIRN_FLAG, with _ for -. \
                    A flag wins over its variables, CAIRN_FLAG over ETCD_FLAG. With --config-file only the file counts.\n"
        .to_owned();
    for section in SECTIONS {
        let _ = write!(text, "\n{}:\n", section.title);
        for flag in section.flags {
            let default = if flag.default.is_empty() { "''" } else { flag.default };
            let note = match flag.status {
                Status::Works => String::new(),
                Status::Ignored(why) => format!(" Has no effect: {why}."),
            };
            let _ = writeln!(text, "  --{} {default}\n      {}{note}", flag.name, flag.help);
        }
    }
    text
}
