//! `create configmap`.
//!
//! Owns: making a ConfigMap of files and texts. Does not own: what may be in it (crate `api`).

use anyhow::{Context as _, Result, bail, ensure};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use stint_api::limits::CONFIG_MAP_BYTES_MAX;
use stint_api::{ConfigMap, validate_config_map};

use crate::arguments::CreateConfigMap;
use crate::commands::Context;
use crate::commands::manifest::{problem_of_map, refuse_if_any};
use crate::output;

/// `stint create configmap`.
pub async fn create(context: &Context, create: &CreateConfigMap) -> Result<()> {
    let map = config_map_of(context.namespace(), create)?;
    let problem = problem_of_map("configmap", &map, &validate_config_map(&map));
    refuse_if_any(&problem.into_iter().collect::<Vec<_>>())?;
    let created = context.client.create_config_map(&map).await?;
    output::line(&format!("configmap/{} created", created.metadata.name))
}

fn config_map_of(namespace: &str, create: &CreateConfigMap) -> Result<ConfigMap> {
    let mut map = ConfigMap { immutable: create.immutable.then_some(true), ..ConfigMap::default() };
    create.name.clone_into(&mut map.metadata.name);
    namespace.clone_into(&mut map.metadata.namespace);
    for literal in &create.from_literal {
        let Some((key, text)) = literal.split_once('=') else {
            bail!("--from-literal {literal:?} has no text: write KEY=TEXT");
        };
        add(&mut map, key, text.as_bytes().to_vec())?;
    }
    for source in &create.from_file {
        let (key, path) = match source.split_once('=') {
            Some((key, path)) => (Some(key), path),
            None => (None, source.as_str()),
        };
        let path = Path::new(path);
        if !path.is_dir() {
            let key = key.or_else(|| path.file_name()?.to_str());
            let key = key.with_context(|| format!("{} has no name: write KEY=PATH", path.display()))?;
            add(&mut map, key, content_of(path)?)?;
            continue;
        }
        ensure!(key.is_none(), "{} is a folder: each of its files is its own key", path.display());
        let failed = || format!("the folder {} can't be read", path.display());
        for entry in path.read_dir().with_context(failed)? {
            let file = entry.with_context(failed)?.path();
            let name = file.file_name().and_then(|name| name.to_str());
            if let Some(name) = name.filter(|_| file.is_file()) {
                add(&mut map, name, content_of(&file)?)?;
            }
        }
    }
    Ok(map)
}

fn add(map: &mut ConfigMap, key: &str, content: Vec<u8>) -> Result<()> {
    ensure!(
        !map.data.contains_key(key) && !map.binary_data.contains_key(key),
        "key {key:?} is given twice: leave one out"
    );
    match String::from_utf8(content) {
        Ok(text) => drop(map.data.insert(key.to_owned(), text)),
        Err(error) => drop(map.binary_data.insert(key.to_owned(), error.into_bytes())),
    }
    Ok(())
}

fn content_of(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    // One byte more than may be: then it is refused by the name of its limit, however long it is.
    File::open(path)
        .and_then(|file| file.take(CONFIG_MAP_BYTES_MAX as u64 + 1).read_to_end(&mut content))
        .with_context(|| format!("{} can't be read", path.display()))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(from_file: Vec<String>, from_literal: &[&str]) -> CreateConfigMap {
        CreateConfigMap {
            name: "settings".to_owned(),
            from_file,
            from_literal: from_literal.iter().map(|text| (*text).to_owned()).collect(),
            immutable: true,
        }
    }

    #[test]
    fn files_folders_and_texts_become_keys() {
        let folder = std::env::temp_dir().join(format!("stint-config-map-test.{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("a.conf"), "x = 1\n").unwrap();
        std::fs::write(folder.join("logo"), [0, 255]).unwrap();
        let path = folder.to_str().unwrap().to_owned();
        let files = vec![path.clone(), format!("other={path}/a.conf")];
        let map = config_map_of("team", &request(files, &["level=debug", "empty=", "eq=a=b"]));
        let missing = config_map_of("team", &request(vec![format!("{path}/none")], &[]));
        std::fs::remove_dir_all(&folder).unwrap();
        let map = map.unwrap();
        assert_eq!((map.metadata.name.as_str(), map.metadata.namespace.as_str()), ("settings", "team"));
        let data: Vec<_> = map.data.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        let expected =
            [("a.conf", "x = 1\n"), ("empty", ""), ("eq", "a=b"), ("level", "debug"), ("other", "x = 1\n")];
        assert_eq!(data, expected);
        assert_eq!((map.binary_data["logo"].as_slice(), map.immutable), (&[0, 255][..], Some(true)));
        assert_eq!(validate_config_map(&map), []);
        assert!(missing.unwrap_err().to_string().contains("none can't be read"));
    }

    #[test]
    fn what_makes_no_config_map_is_refused() {
        for (literals, expected) in [(&["a=1", "a=2"][..], "given twice"), (&["a"], "write KEY=TEXT")] {
            let error = config_map_of("team", &request(Vec::new(), literals)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
