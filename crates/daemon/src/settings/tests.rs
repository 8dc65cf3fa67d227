use super::*;
use clap::{CommandFactory, Parser};
use std::time::Duration;

#[derive(Debug, Clone, Parser)]
struct Flags {
    /// Its name
    #[arg(long)]
    name: String,
    #[arg(long)]
    data_dir: PathBuf,
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    server: Vec<String>,
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true)]
    cpu: Option<String>,
    #[arg(long, default_value_t = 110)]
    max_pods: u32,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = ArgAction::Set)]
    insecure: bool,
    #[arg(long, value_parser = ["spread", "pack"])]
    placement: Option<String>,
    #[arg(long, value_parser = |text: &str| text.parse().map(Duration::from_secs).map_err(|_| "write seconds"))]
    patience: Option<Duration>,
    #[arg(long)]
    config: Option<PathBuf>,
}

const NAMES: Names = Names { prefix: "STINT_TEST_", also: &[("server", "STINT_SERVER")] };

struct Case {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, OsString>,
    has_file: bool,
}

impl Case {
    fn new(file: Option<&str>, variables: &[(&str, &str)]) -> Case {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::write(folder.path().join("c.toml"), text).unwrap();
        }
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        Case { folder, variables, has_file: file.is_some() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// What the process would be started with, and where each value comes from.
    fn resolve(&self, flags: &str) -> Result<(Flags, Resolved), Error> {
        let mut line: Vec<OsString> = vec!["test".into()];
        line.extend(flags.split_whitespace().map(OsString::from));
        if self.has_file {
            line.push(format!("--config={}", self.path("c.toml")).into());
        }
        let command = Flags::command().mut_args(|argument| argument.required(false));
        let settings = Settings::new(NAMES, command.get_arguments());
        let matches = command.try_get_matches_from(&line).unwrap();
        let resolved = settings.resolve(&matches, &self.variables)?;
        line.extend(resolved.flags());
        Ok((Flags::try_parse_from(line).unwrap(), resolved))
    }

    fn error(&self, flags: &str) -> String {
        self.resolve(flags).unwrap_err().to_string().replace(&self.path("c.toml"), "F")
    }
}

fn origin(resolved: &Resolved, key: &str) -> Origin {
    resolved.values.iter().find(|value| value.key == key).unwrap().origin.clone()
}

const FILE: &str = r#"
name = "of-file"
data-dir = "data"
server = ["a:1", "b:2"]
cpu = 1.5
max-pods = 7
insecure = true
placement = "pack"

[label]
disk = "ssd"
zone = "a"
"#;

#[test]
fn a_file_says_all_that_flags_say() {
    let case = Case::new(Some(FILE), &[]);
    let (flags, resolved) = case.resolve("").unwrap();
    assert_eq!(flags.name, "of-file");
    assert_eq!(flags.data_dir, case.folder.path().join("data"), "paths are beside the file");
    assert_eq!(flags.server, ["a:1", "b:2"]);
    assert_eq!(flags.label, ["disk=ssd", "zone=a"]);
    assert_eq!((flags.cpu.as_deref(), flags.max_pods, flags.insecure), (Some("1.5"), 7, true));
    assert_eq!(flags.placement.as_deref(), Some("pack"));
    let file = PathBuf::from(case.path("c.toml"));
    assert_eq!(origin(&resolved, "data-dir"), Origin::File { path: file.clone(), line: 3 });
    assert_eq!(origin(&resolved, "label"), Origin::File { path: file, line: 10 });
    assert_eq!(origin(&resolved, "patience"), Origin::Default);
    let array = "name = 'n'\ndata-dir = '/d'\nlabel = ['disk=ssd']\nserver = 'a:1,b:2'";
    let (flags, _) = Case::new(Some(array), &[]).resolve("").unwrap();
    assert_eq!((flags.label, flags.server.len()), (vec!["disk=ssd".to_owned()], 2));
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let variables = [
        ("STINT_TEST_NAME", "of-environment"),
        ("STINT_TEST_LABEL", "a=b, c=d"),
        ("STINT_TEST_MAX_PODS", ""),
        ("STINT_TEST_INSECURE", "false"),
        ("STINT_SERVER", "e:1"),
    ];
    let case = Case::new(Some(FILE), &variables);
    let (flags, resolved) = case.resolve("").unwrap();
    assert_eq!((flags.name.as_str(), flags.insecure), ("of-environment", false));
    assert_eq!(flags.label, ["a=b", "c=d"], "a list takes the place of another");
    assert_eq!(flags.max_pods, 7, "an empty variable says nothing");
    assert_eq!(flags.server, ["e:1"], "the other name of a variable counts too");
    assert_eq!(origin(&resolved, "server"), Origin::Variable("STINT_SERVER".to_owned()));
    let (flags, resolved) = case.resolve("--name of-flag --insecure --label x=y --server f:1").unwrap();
    assert_eq!((flags.name.as_str(), flags.insecure, flags.max_pods), ("of-flag", true, 7));
    assert_eq!((flags.label, flags.server), (vec!["x=y".to_owned()], vec!["f:1".to_owned()]));
    assert_eq!(origin(&resolved, "name"), Origin::Flag);
    let own = [("STINT_SERVER", "e:1"), ("STINT_TEST_SERVER", "own:1")];
    let (flags, _) = Case::new(Some(FILE), &own).resolve("").unwrap();
    assert_eq!(flags.server, ["own:1"], "a process's own variable goes before the one that it shares");
    let (flags, resolved) = Case::new(None, &[]).resolve("--name n --data-dir d").unwrap();
    assert_eq!((flags.max_pods, origin(&resolved, "max-pods")), (110, Origin::Default));
    let rows = resolved.rows();
    let row = |key: &str| rows.iter().find(|row| row[0] == key).unwrap().clone();
    assert_eq!(row("max-pods"), ["max-pods", "110", "default"]);
    assert_eq!(row("cpu"), ["cpu", "<none>", "default"]);
    assert_eq!(row("name"), ["name", "n", "flag"]);
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let named = Case::new(Some(FILE), &[]);
    let path = named.path("c.toml");
    let case = Case::new(None, &[("STINT_TEST_CONFIG", &path)]);
    assert_eq!(case.resolve("").unwrap().0.name, "of-file");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (file, expected) in [
        ("name = 'a'\ndata_dir = 'd'", "F:2: there is no setting \"data_dir\"; did you mean data-dir?"),
        ("nmae = 'a'", "F:1: there is no setting \"nmae\"; did you mean name?"),
        (
            "something-else = 1",
            "F:1: there is no setting \"something-else\": each flag is one, without its dashes",
        ),
        ("config = 'x'", "F:1: there is no setting \"config\""),
        ("\n[lable]\na = 'b'", "F:2: there is no setting \"lable\"; did you mean label?"),
        ("name = 5", "F:1: name: a whole number is not what it takes: write a text"),
        ("\nmax-pods = '5'", "F:2: max-pods: a text is not what it takes: write a whole number"),
        ("insecure = 1", "F:1: insecure: a whole number is not what it takes: write true or false"),
        ("cpu = true", "F:1: cpu: true or false is not what it takes: write a text or a number"),
        ("name = ['a']", "F:1: name: an array is not what it takes: write a text"),
        ("[name]\na = 1", "F:1: name: a table is not what it takes: write a text"),
        ("[[label]]\na = 'b'", "F:1: label: an array of tables is not what it takes"),
        ("[server]\na = 'b'", "F:1: server: a table is not what it takes: write an array of texts"),
        (
            "label = [\n 'a=b',\n 1\n]",
            "F:3: label: a whole number is not what it takes: write a table of texts",
        ),
        ("[label.x]\na = 'b'", "F:1: label: a table of tables is not what it takes"),
        ("max-pods = -1", "F:1: max-pods: invalid value '-1' for '--max-pods <MAX_PODS>'"),
        (
            "placement = 'best'",
            "F:1: placement: invalid value 'best' for '--placement <PLACEMENT>' [possible values: spread, pack]",
        ),
        ("patience = 'long'", "write seconds"),
        ("name = 'a'\nname = 'b'", "F:2:1: duplicate key"),
        ("name = ", "F:1:"),
    ] {
        let error = Case::new(Some(file), &[]).error("");
        assert!(error.contains(expected), "{file}: {error}");
    }
    let error = Case::new(None, &[]).error("--config /nowhere/c.toml");
    assert!(error.starts_with("the configuration /nowhere/c.toml can't be read: No such file"), "{error}");
    let large = "#".repeat(2 << 20);
    assert!(Case::new(Some(&large), &[]).error("").contains("more than 1048576 bytes"));
    for (variable, value, expected) in [
        ("STINT_TEST_MAX_PODS", "many", "STINT_TEST_MAX_PODS: invalid value 'many'"),
        ("STINT_TEST_INSECURE", "perhaps", "STINT_TEST_INSECURE: invalid value 'perhaps'"),
        ("STINT_TEST_PLACEMENT", "best", "STINT_TEST_PLACEMENT: invalid value 'best'"),
    ] {
        let error = Case::new(None, &[(variable, value)]).error("");
        assert!(error.contains(expected), "{variable}: {error}");
    }
}

#[test]
fn variables_that_are_no_settings_are_told_and_stop_nothing() {
    let variables =
        [("STINT_TEST_NMAE", "x"), ("STINT_TEST_PORT", "tcp://10.0.0.1:7440"), ("STINT_TEST_CONFIG", "")];
    let (_, resolved) = Case::new(None, &variables).resolve("--name n --data-dir d").unwrap();
    assert_eq!(resolved.warnings.len(), 2, "{:?}", resolved.warnings);
    assert!(resolved.warnings[0].ends_with("did you mean STINT_TEST_NAME?"), "{:?}", resolved.warnings);
}

#[test]
fn every_flag_is_a_setting() {
    let command = Flags::command();
    let settings = Settings::new(NAMES, command.get_arguments());
    let keys: Vec<_> = settings.table().iter().map(|setting| setting.key.as_str()).collect();
    let expected =
        ["name", "data-dir", "label", "server", "cpu", "max-pods", "insecure", "placement", "patience"];
    assert_eq!(keys, expected);
    assert_eq!(settings.variable(&settings.table()[1]), "STINT_TEST_DATA_DIR");
    assert_eq!(settings.table()[0].help(), "Its name");
}
