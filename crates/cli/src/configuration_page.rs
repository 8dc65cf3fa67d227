//! deploy/CONFIGURATION.md, which is written out of the settings themselves: `UPDATE=1` rewrites it.

use crate::arguments::Arguments;
use crate::server_settings::{self, Completed, server_settings};
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use stint_daemon::settings::Settings;

// Seen from the package, where Cargo runs tests: not compiled in, as clones may share a target folder.
const PAGE: &str = "../../deploy/CONFIGURATION.md";

const HEAD: &str = r#"# Configuration

Each setting of `stint server` and of `stint-agent` is a flag, a variable of the environment and a key of a file: `--data-dir`,
`STINT_SERVER_DATA_DIR` or `STINT_AGENT_DATA_DIR`, and `data-dir`. A flag goes before its variable, that before the file, that before the default. What
they come to, and where each value comes from, is printed by

```sh
stint config show server --config /etc/stint/server.toml
stint-agent config show --config /etc/stint/agent.toml
```

which take the flags of a server and of an agent, and `-o json`.

- The file is TOML. It is read if `--config FILE`, `STINT_SERVER_CONFIG` or `STINT_AGENT_CONFIG` names it, and not otherwise: no file is looked for
  anywhere. `stint dev` reads none.
- What is wrong in it, such as a key that is no setting or a value of another kind, keeps the process from starting, with the file,
  the line, the key, and the key that was probably meant.
- A setting with several values is an array in the file, and separated by commas in its variable. One whose values are `KEY=VALUE` may be
  a table. A list takes the place of that of what it goes before; nothing is added up.
- `true` and `false` are what switches take; a flag alone is `true`, and `--insecure=false` goes before a file that says `true`.
- Paths of the file that are not absolute are beside the file.
- A variable that is empty says nothing. One that begins like a setting and is none is told in the log.
- `STINT_TOKEN_FILE` and `STINT_LOG` count for `token-file` and `log-level`, and of an agent `STINT_SERVER` for `server`, if their own variables
  are not set.
- There are no secrets among the settings, only the files that hold them.

A server:

```toml
name = "s1"
data-dir = "/var/lib/stint"
listen = "10.0.0.1:7440"
peer-listen = "10.0.0.1:7441"
token-file = "/etc/stint/token"
metrics-listen = "10.0.0.1:7442"
log-format = "json"

[initial-cluster]
s1 = "10.0.0.1:7441"
s2 = "10.0.0.2:7441"
s3 = "10.0.0.3:7441"
```

An agent:

```toml
name = "w1"
server = ["10.0.0.1:7440", "10.0.0.2:7440", "10.0.0.3:7440"]
data-dir = "/var/lib/stint-agent"
token-file = "/etc/stint/token"
metrics-listen = "10.0.0.11:7442"
runtime = ["process", "oci"]
allow = ["writable=/scratch"]
cpu = 4
memory = "8Gi"

[label]
disk = "ssd"

[registry-mirror]
"docker.io" = "10.0.0.9:5000"
```
"#;

fn table(page: &mut String, title: &str, settings: &Settings) {
    let _ = write!(
        page,
        "\n## {title}\n\n| key | variable | value | default | meaning |\n|---|---|---|---|---|\n"
    );
    for setting in settings.table() {
        let default = setting.default().join(",");
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let help = setting.help().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} | {default} | {help} |",
            setting.key,
            settings.variable(setting),
            setting.describe()
        );
    }
}

#[test]
fn the_page_describes_every_setting() {
    let mut page = HEAD.to_owned();
    table(&mut page, "`stint server`", &server_settings());
    table(&mut page, "`stint-agent`", &stint_agent::agent_settings());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        written == page,
        "{PAGE} is not what the settings say: run this test with UPDATE=1, and look at what changed"
    );
}

#[test]
fn the_examples_of_the_page_are_understood() {
    let examples: Vec<&str> =
        HEAD.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let folder = tempfile::tempdir().unwrap();
    let [server, agent] = [0, 1].map(|number: usize| {
        let path = folder.path().join(format!("{number}.toml"));
        std::fs::write(&path, examples[number]).unwrap();
        path.display().to_string()
    });
    let nothing: BTreeMap<String, OsString> = BTreeMap::new();
    let line: Vec<OsString> = ["stint", "server", "--config", &server].map(OsString::from).into();
    let completed = server_settings::complete(Arguments::command(), line, &nothing).unwrap();
    let Completed::Line(line, _) = completed else { panic!("it is to run") };
    let matches = Arguments::command().try_get_matches_from(line).unwrap();
    assert_eq!(matches.subcommand_name(), Some("server"));
    let line: Vec<OsString> = ["stint-agent", "--config", &agent].map(OsString::from).into();
    let asked = stint_agent::read_command_line(line, &nothing).unwrap();
    assert!(matches!(asked, stint_agent::Asked::Run(..)), "{asked:?}");
}
