//! An image's config: how its containers are run if the Pod does not say otherwise.

use super::digest::Digest;
use super::failure::Failure;
use crate::limits;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// What an image says about its containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Program and first arguments; what `command` replaces.
    pub entrypoint: Vec<String>,
    /// Further arguments; what `args` replaces, and what goes if `command` is given.
    pub cmd: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// `USER[:GROUP]`, each a number or a name of the image's own; empty: 0.
    pub user: String,
    /// Working folder; empty: `/`.
    pub working_directory: String,
    /// Folders that its containers write to, at most [`limits::IMAGE_VOLUMES_MAX`].
    pub volumes: Vec<String>,
    /// The signal that asks to end, such as `SIGQUIT`; empty: SIGTERM.
    pub stop_signal: String,
}

/// What is understood of the document. Engines write `null` for what is not set.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Settings>,
    rootfs: Rootfs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    working_dir: Option<String>,
    /// A set, which in JSON is an object of empty objects.
    #[serde(default)]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// Reads the document, and what each layer unpacks to, from the lowest up.
pub(super) fn read(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), Failure> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| Failure::because("the image's config can't be read", &error))?;
    let diff_ids: Vec<_> = document.rootfs.diff_ids.unwrap_or_default();
    let diff_ids = diff_ids.iter().map(|text| Digest::parse(text)).collect::<Result<_, _>>()?;
    let settings = document.config.unwrap_or_default();
    let env = settings.env.unwrap_or_default();
    let config = ImageConfig {
        entrypoint: settings.entrypoint.unwrap_or_default(),
        cmd: settings.cmd.unwrap_or_default(),
        env: env
            .iter()
            .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        user: settings.user.unwrap_or_default(),
        working_directory: settings.working_dir.unwrap_or_default(),
        volumes: settings.volumes.unwrap_or_default().into_keys().take(limits::IMAGE_VOLUMES_MAX).collect(),
        stop_signal: settings.stop_signal.unwrap_or_default(),
    };
    Ok((config, diff_ids))
}

impl ImageConfig {
    /// What is executed, given what the Pod says (Kubernetes: `command` is the entrypoint, `args` are the cmd, and a
    /// `command` without `args` drops the image's cmd).
    pub fn command_line(&self, command: &[String], args: &[String]) -> Vec<String> {
        let (first, rest) = match (command.is_empty(), args.is_empty()) {
            (false, _) => (command, args),
            (true, false) => (self.entrypoint.as_slice(), args),
            (true, true) => (self.entrypoint.as_slice(), self.cmd.as_slice()),
        };
        first.iter().chain(rest).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_write_is_understood() {
        let digest = Digest::of(b"layer");
        let text = format!(
            r#"{{"architecture": "amd64", "os": "linux", "config": {{"Env": ["A=1", "B=x=y", "C", "=z"], "Volumes": null,
            "Entrypoint": null, "Cmd": ["sh"], "User": "app:staff", "WorkingDir": "/srv", "StopSignal": "SIGINT"}},
            "rootfs": {{"type": "layers", "diff_ids": ["{digest}"]}}}}"#
        );
        let (config, diff_ids) = read(text.as_bytes()).unwrap();
        assert_eq!(diff_ids, [digest]);
        let env =
            [("A", "1"), ("B", "x=y"), ("C", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            config,
            ImageConfig {
                entrypoint: vec![],
                cmd: vec!["sh".to_owned()],
                env: env.into(),
                user: "app:staff".to_owned(),
                working_directory: "/srv".to_owned(),
                volumes: vec![],
                stop_signal: "SIGINT".to_owned(),
            }
        );
        let text = br#"{"config": {"Volumes": {"/var/data": {}, "/a": {}}}, "rootfs": {}}"#;
        assert_eq!(read(text).unwrap().0.volumes, ["/a", "/var/data"]);
        for text in [r#"{"rootfs": {}}"#, r#"{"config": null, "rootfs": {"diff_ids": null}}"#] {
            assert_eq!(read(text.as_bytes()).unwrap(), (ImageConfig::default(), vec![]));
        }
        assert!(read(br#"{"rootfs": {"diff_ids": ["md5:1"]}}"#).is_err());
        assert!(read(b"{}").is_err());
    }

    #[test]
    fn a_command_drops_the_images_cmd_and_args_alone_do_not_drop_its_entrypoint() {
        let texts = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let config = ImageConfig { entrypoint: texts("entry e"), cmd: texts("cmd c"), ..Default::default() };
        for (command, args, line) in
            [("", "", "entry e cmd c"), ("", "a", "entry e a"), ("x y", "", "x y"), ("x y", "a", "x y a")]
        {
            assert_eq!(
                config.command_line(&texts(command), &texts(args)),
                texts(line),
                "{command:?} {args:?}"
            );
        }
    }
}
