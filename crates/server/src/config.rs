//! What a server is started with, and the checks of it.
//!
//! Owns: the configuration and its validation. Does not own: the command line (`stint-cli`), settings of the whole cluster
//! once it is initialized (`stint-core`).

use std::net::{SocketAddr, TcpListener};

use stint_proto::limits::TOKEN_BYTES_MAX;
use stint_raft::StorageLocation;

use crate::error::Error;
use crate::identity::{ClusterToken, IdentityKind};
use crate::limits::{ADDRESS_BYTES_MAX, INITIAL_MEMBERS_MAX, SERVER_NAME_BYTES_MAX, TOKEN_BYTES_MIN};
use crate::settings::GivenSettings;

/// Everything that one server is started with.
#[derive(Debug)]
pub struct ServerConfig {
    /// `--name`: unique in the cluster; a DNS label.
    pub name: String,
    /// Where log and rows are kept.
    pub storage: StorageLocation,
    /// `--listen`: clients and agents.
    pub listen: Listen,
    /// `--peer-listen`: the other servers.
    pub peer_listen: Listen,
    /// `--initial-cluster`: name and peer address (HOST:PORT) of every initial member, this one included. Empty: a cluster
    /// of this server alone.
    pub initial_cluster: Vec<InitialMember>,
    /// `--advertise`: where clients and agents reach this server, HOST:PORT. None: where it listens.
    pub advertise: Option<String>,
    /// `--advertise-peer`: where the other servers reach this one, HOST:PORT. None: what the initial cluster says, else
    /// where it listens.
    pub advertise_peer: Option<String>,
    /// What the cluster is to be like: counts when it is initialized, afterwards what is stored does.
    pub settings: GivenSettings,
    /// The shared token of clients, agents and peers.
    pub token: Option<ClusterToken>,
    /// `--insecure`: no token, although others can reach this server.
    pub insecure: bool,
    /// Entries after which a snapshot lets the log be cut; None: the default of `stint-raft`.
    pub snapshot_log_entries: Option<u64>,
    /// Entries kept behind a snapshot for followers that are a little late; None: the default of `stint-raft`.
    pub log_entries_kept: Option<u64>,
    /// URL of the archive of whole logs, the same on all servers: agents are told it, and upload there. None: there is no archive.
    pub log_archive: Option<String>,
}

/// Where a server listens.
#[derive(Debug)]
pub enum Listen {
    /// Binds this address; port 0 takes a free one.
    Address(SocketAddr),
    /// Takes a bound listener: no moment between choosing a port and listening on it.
    Bound(TcpListener),
}

/// One member of the initial cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Its `--name`.
    pub name: String,
    /// Where the other servers reach it, HOST:PORT.
    pub peer_address: String,
}

impl InitialMember {
    /// Parses `--initial-cluster`: `s1=HOST:PORT,s2=HOST:PORT`.
    pub fn parse_list(text: &str) -> Result<Vec<InitialMember>, Error> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (name, peer_address) = part.split_once('=').ok_or_else(|| {
                    invalid(format!(
                        "initial cluster: {part:?} is not NAME=HOST:PORT: write s1=10.0.0.1:7441,s2=…"
                    ))
                })?;
                Ok(InitialMember {
                    name: name.trim().to_owned(),
                    peer_address: peer_address.trim().to_owned(),
                })
            })
            .collect()
    }
}

impl Listen {
    /// The address asked for, or the one bound already.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        match self {
            Listen::Address(address) => Ok(*address),
            Listen::Bound(listener) => listener
                .local_addr()
                .map_err(|source| Error::Listen { address: "bound listener".to_owned(), source }),
        }
    }

    /// Binds it for tokio.
    pub(crate) fn bind(&self) -> Result<(tokio::net::TcpListener, SocketAddr), Error> {
        let failed = |source| Error::Listen { address: "bound listener".to_owned(), source };
        let listener = match self {
            Listen::Address(address) => TcpListener::bind(address)
                .map_err(|source| Error::Listen { address: address.to_string(), source })?,
            Listen::Bound(listener) => listener.try_clone().map_err(failed)?,
        };
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok((tokio::net::TcpListener::from_std(listener).map_err(failed)?, address))
    }
}

impl ServerConfig {
    /// Checks everything that can be checked without touching disk or network.
    pub fn validate(&self) -> Result<(), Error> {
        check_name(&self.name)?;
        self.validate_members()?;
        for (flag, address) in [("advertise", &self.advertise), ("advertise-peer", &self.advertise_peer)] {
            if let Some(address) = address {
                check_host_port(flag, address)?;
            }
        }
        self.settings.validate()?;
        self.validate_token()
    }

    /// By what a request without a token is recognised; None if a token is needed.
    pub fn open_to(&self) -> Option<IdentityKind> {
        match (&self.token, self.insecure) {
            (Some(_), _) => None,
            (None, true) => Some(IdentityKind::Insecure),
            (None, false) => Some(IdentityKind::Loopback),
        }
    }

    /// Where clients and agents reach this server that listens on `address`.
    ///
    /// # Errors
    /// If it listens on all addresses and nothing says under which it is reached.
    pub fn client_address(&self, address: SocketAddr) -> Result<String, Error> {
        if let Some(advertised) = &self.advertise {
            return Ok(advertised.clone());
        }
        if !address.ip().is_unspecified() {
            return Ok(address.to_string());
        }
        let own = self.initial_cluster.iter().find(|member| member.name == self.name);
        let peer_address = self.advertise_peer.as_ref().or(own.map(|member| &member.peer_address));
        let host = peer_address.and_then(|peer_address| peer_address.rsplit_once(':')).map(|(host, _)| host);
        host.map(|host| format!("{host}:{}", address.port())).ok_or_else(|| {
            invalid(format!(
                "listen: {address} is no address that others can dial: say with --advertise HOST:PORT what is"
            ))
        })
    }

    fn validate_members(&self) -> Result<(), Error> {
        let members = &self.initial_cluster;
        if members.len() > INITIAL_MEMBERS_MAX {
            return Err(invalid(format!(
                "initial cluster: {} servers are more than {INITIAL_MEMBERS_MAX}: start with 3 or 5",
                members.len()
            )));
        }
        for (position, member) in members.iter().enumerate() {
            check_name(&member.name)?;
            check_host_port(&format!("initial cluster: {}", member.name), &member.peer_address)?;
            let earlier = &members[..position];
            if earlier.iter().any(|other| other.name == member.name) {
                return Err(invalid(format!(
                    "initial cluster: {} is there twice: give each server its own name",
                    member.name
                )));
            }
            if earlier.iter().any(|other| other.peer_address == member.peer_address) {
                return Err(invalid(format!(
                    "initial cluster: {} is there twice: give each server its own address",
                    member.peer_address
                )));
            }
        }
        Ok(())
    }

    fn validate_token(&self) -> Result<(), Error> {
        if let Some(token) = &self.token {
            let secret = token.secret();
            if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&secret.len()) {
                return Err(invalid(format!(
                    "token: {} bytes are not from {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX}: make one with `openssl rand -hex 32`",
                    secret.len()
                )));
            }
            if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(invalid(
                    "token: only visible ASCII characters can be sent: make one with `openssl rand -hex 32`"
                        .to_owned(),
                ));
            }
            if self.insecure {
                return Err(invalid(
                    "insecure and a token exclude each other: drop one of the two".to_owned(),
                ));
            }
            return Ok(());
        }
        for (flag, listen) in [("listen", &self.listen), ("peer-listen", &self.peer_listen)] {
            let address = listen.address()?;
            if !address.ip().is_loopback() && !self.insecure {
                return Err(invalid(format!(
                    "{flag}: others can reach {address}: whoever does runs commands on every node; give --token-file, or --insecure to allow it"
                )));
            }
        }
        Ok(())
    }
}

/// Checks the name of a server.
///
/// # Errors
/// Says what a name must be.
pub fn check_name(name: &str) -> Result<(), Error> {
    let label = !name.is_empty()
        && name.len() <= SERVER_NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if label {
        return Ok(());
    }
    Err(invalid(format!(
        "name: {name:?} is not a DNS label of at most {SERVER_NAME_BYTES_MAX} bytes: use lower-case letters, digits and '-'"
    )))
}

pub(crate) fn check_host_port(what: &str, text: &str) -> Result<(), Error> {
    if text.len() > ADDRESS_BYTES_MAX {
        let length = text.len();
        return Err(invalid(format!(
            "{what}: an address of {length} bytes is longer than {ADDRESS_BYTES_MAX}: write HOST:PORT"
        )));
    }
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.parse::<u16>().is_ok_and(|port| port != 0)
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte))
            && (!host.contains(':') || host.starts_with('['))
    });
    if good {
        return Ok(());
    }
    Err(invalid(format!("{what}: {text:?} is not HOST:PORT: write 10.0.0.1:7440 or [fd00::1]:7440")))
}

fn invalid(message: String) -> Error {
    Error::InvalidConfig { message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use stint_raft::engine::MemoryEngine;

    fn config() -> ServerConfig {
        ServerConfig {
            name: "s1".to_owned(),
            storage: StorageLocation::Memory { engine: MemoryEngine::new(), snapshots: std::env::temp_dir() },
            listen: Listen::Address("127.0.0.1:0".parse().expect("an address")),
            peer_listen: Listen::Address("127.0.0.1:0".parse().expect("an address")),
            initial_cluster: Vec::new(),
            advertise: None,
            advertise_peer: None,
            settings: GivenSettings::default(),
            token: None,
            insecure: false,
            snapshot_log_entries: None,
            log_entries_kept: None,
            log_archive: None,
        }
    }

    fn open() -> Listen {
        Listen::Address("0.0.0.0:7440".parse().expect("an address"))
    }

    #[test]
    fn loopback_needs_no_token_and_everything_else_does() {
        assert!(config().validate().is_ok());
        assert!(ServerConfig { listen: open(), ..config() }.validate().is_err());
        assert!(ServerConfig { peer_listen: open(), ..config() }.validate().is_err());
        assert!(ServerConfig { listen: open(), insecure: true, ..config() }.validate().is_ok());
        let token = Some(ClusterToken::new("0123456789abcdef"));
        assert!(ServerConfig { listen: open(), token, ..config() }.validate().is_ok());
    }

    #[test]
    fn each_bad_value_is_refused_by_name() {
        let member = |name: &str, address: &str| InitialMember {
            name: name.to_owned(),
            peer_address: address.to_owned(),
        };
        let cases: Vec<(ServerConfig, &str)> = vec![
            (ServerConfig { name: String::new(), ..config() }, "name"),
            (ServerConfig { name: "S1".to_owned(), ..config() }, "name"),
            (ServerConfig { name: "../s1".to_owned(), ..config() }, "name"),
            (ServerConfig { name: "s".repeat(64), ..config() }, "name"),
            (
                ServerConfig {
                    settings: GivenSettings {
                        node_lease: Some(Duration::from_secs(4)),
                        ..GivenSettings::default()
                    },
                    ..config()
                },
                "node lease",
            ),
            (ServerConfig { advertise: Some("host".to_owned()), ..config() }, "advertise"),
            (ServerConfig { advertise: Some("host:0".to_owned()), ..config() }, "advertise"),
            (ServerConfig { advertise_peer: Some("::1:7441".to_owned()), ..config() }, "advertise-peer"),
            (ServerConfig { advertise_peer: Some("a b:7441".to_owned()), ..config() }, "advertise-peer"),
            (ServerConfig { token: Some(ClusterToken::new("short")), ..config() }, "token"),
            (ServerConfig { token: Some(ClusterToken::new("a token with spaces")), ..config() }, "token"),
            (
                ServerConfig {
                    token: Some(ClusterToken::new("0123456789abcdef")),
                    insecure: true,
                    ..config()
                },
                "insecure",
            ),
            (
                ServerConfig { initial_cluster: vec![member("s1", "h:1"), member("s1", "h:2")], ..config() },
                "twice",
            ),
            (
                ServerConfig { initial_cluster: vec![member("s1", "h:1"), member("s2", "h:1")], ..config() },
                "twice",
            ),
            (ServerConfig { initial_cluster: vec![member("s1", "nowhere")], ..config() }, "s1"),
            (
                ServerConfig {
                    initial_cluster: (1..=8).map(|n| member(&format!("s{n}"), &format!("h:{n}"))).collect(),
                    ..config()
                },
                "more than",
            ),
        ];
        for (config, word) in cases {
            let message = config.validate().expect_err(word).to_string();
            assert!(message.contains(word), "{word}: {message}");
        }
    }

    #[test]
    fn a_server_on_all_addresses_says_under_which_it_is_reached() {
        let all: SocketAddr = "0.0.0.0:7440".parse().expect("an address");
        assert!(config().client_address(all).is_err());
        let advertised = ServerConfig { advertise: Some("a:1".to_owned()), ..config() };
        assert_eq!(advertised.client_address(all).expect("an address"), "a:1");
        let member = InitialMember { name: "s1".to_owned(), peer_address: "10.0.0.1:7441".to_owned() };
        let listed = ServerConfig { initial_cluster: vec![member], ..config() };
        assert_eq!(listed.client_address(all).expect("an address"), "10.0.0.1:7440");
        let one: SocketAddr = "127.0.0.1:7440".parse().expect("an address");
        assert_eq!(config().client_address(one).expect("an address"), "127.0.0.1:7440");
    }

    #[test]
    fn the_initial_cluster_is_parsed() {
        let members = InitialMember::parse_list("s1=a:1, s2=b:2,").expect("a good list");
        assert_eq!(members.len(), 2);
        assert_eq!(members[1], InitialMember { name: "s2".to_owned(), peer_address: "b:2".to_owned() });
        assert!(InitialMember::parse_list("s1").is_err());
    }
}
