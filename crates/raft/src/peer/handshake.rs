//! The handshake with which every peer connection begins, before HTTP/2.
//!
//! Owns: its frames, the mutual proof that both sides know the cluster token, the checks of cluster and member ids.
//! Does not own: sockets, what is said afterwards, who may call which service.
//!
//! Four frames: hello, hello, proof (connecting side), verdict (accepting side). Each proof is an HMAC-SHA256 over
//! everything said before it, both nonces included, so that no proof can be used twice or for the other direction; the
//! token itself never travels. The connecting side proves first: a stranger who finds the port learns nothing.
//!
//! Limit: the traffic after the handshake is plain TCP. Who sits on the path can read and change it.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, Mac};
use prost::Message;
use sha2::Sha256;
use stint_api::{ClusterId, MemberId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits::{HANDSHAKE_FRAME_BYTES_MAX, HANDSHAKE_NAME_BYTES_MAX, HANDSHAKE_TIMEOUT_MS};
use crate::wire;

/// First bytes on the wire: tells a stray client from a peer.
const MAGIC: &[u8; 8] = b"stintp1\n";
/// Version of what follows the magic, and of the peer service.
const PROTOCOL_VERSION: u32 = 1;
const NONCE_BYTES: usize = 32;
const LABEL_CONNECTING: &[u8] = b"stint peer handshake: connecting side";
const LABEL_ACCEPTING: &[u8] = b"stint peer handshake: accepting side";

/// What both sides must know. Without a token (loopback or `--insecure`) it is all zero, and both sides must agree on that.
#[derive(Clone)]
pub struct HandshakeKey(Vec<u8>);

/// Who this server is, at the moment of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalIdentity {
    /// None: the data folder belongs to no cluster yet.
    pub cluster_id: Option<ClusterId>,
    /// None: no id yet.
    pub member_id: Option<MemberId>,
    /// Name of this server.
    pub name: String,
    /// Drawn when the process started.
    pub instance: u64,
}

/// Who is on the other side, as the handshake has shown. Stands in the extensions of every request on the peer port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// None: the peer's data folder belongs to no cluster yet.
    pub cluster_id: Option<ClusterId>,
    /// None: the peer is no member yet; it may only discover and join.
    pub member_id: Option<MemberId>,
    /// Name of the peer.
    pub name: String,
    /// The peer's wall clock at the handshake, in milliseconds since 1970.
    pub wall_clock_ms: i64,
    /// Drawn when the peer's process started.
    pub instance: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side speaks another protocol.
    #[error(
        "peer speaks protocol version {theirs}, this server version {ours}: run the same version of stint on all servers"
    )]
    ProtocolVersion {
        /// Ours.
        ours: u32,
        /// Theirs.
        theirs: u32,
    },
    /// One side does not know the other's token.
    #[error("peer has another cluster token: give all servers the same --token-file (or none of them)")]
    WrongToken,
    /// The other side belongs to another cluster.
    #[error(
        "peer {name:?} belongs to cluster {theirs}, this server to {ours}: check the peer addresses, or that the data folder is the right one"
    )]
    ForeignCluster {
        /// Name of the peer.
        name: String,
        /// Ours.
        ours: ClusterId,
        /// Theirs.
        theirs: ClusterId,
    },
    /// At the address is another member than the one wanted.
    #[error("wanted member {expected}, found {} ({name:?}): if that server's folder was wiped it rejoins under a new id by itself", OrNone(*.actual))]
    WrongMember {
        /// Name of the server that is there: the peer's to who connects, its own to who accepts.
        name: String,
        /// Which member was wanted.
        expected: MemberId,
        /// Which one is there; none: it has no id yet.
        actual: Option<MemberId>,
    },
    /// Both sides claim to be the same member.
    #[error("peer {name:?} claims to be member {member_id}, as this server does: {}", why_same(*.is_itself))]
    SameMember {
        /// Name of the peer.
        name: String,
        /// Both.
        member_id: MemberId,
        /// The peer is this very process.
        is_itself: bool,
    },
    /// The other side sent what is no handshake.
    #[error("peer sent no valid handshake: {0}")]
    Malformed(&'static str),
    /// The handshake took too long.
    #[error("handshake took longer than {HANDSHAKE_TIMEOUT_MS} ms")]
    TimedOut,
    /// The operating system gave no random bytes.
    #[error("no random bytes for the handshake: {0}")]
    Random(String),
    /// The connection broke.
    #[error("connection broke during the handshake: {0}")]
    Io(#[from] std::io::Error),
}

fn why_same(is_itself: bool) -> &'static str {
    match is_itself {
        true => "an address leads back to this server",
        false => "two servers run on copies of one data folder; stop one of them and remove its folder",
    }
}

/// The connecting side of a handshake. `expected`: the member to reach, none if any will do.
pub async fn connect<S>(
    stream: &mut S,
    key: &HandshakeKey,
    local: &LocalIdentity,
    expected: Option<MemberId>,
    wall_clock_ms: i64,
) -> Result<PeerIdentity, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    in_time(connect_untimed(stream, key, local, expected, wall_clock_ms)).await
}

/// The accepting side of a handshake.
pub async fn accept<S>(
    stream: &mut S,
    key: &HandshakeKey,
    local: &LocalIdentity,
    wall_clock_ms: i64,
) -> Result<PeerIdentity, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    in_time(accept_untimed(stream, key, local, wall_clock_ms)).await
}

impl HandshakeKey {
    /// Wraps the cluster token; none: the all-zero key.
    pub fn new(token: Option<&[u8]>) -> HandshakeKey {
        HandshakeKey(token.map_or_else(|| vec![0; 32], <[u8]>::to_vec))
    }

    fn mac(&self, label: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in std::iter::once(&label).chain(parts) {
            // Lengths go in, so that no two different sequences of parts give the same bytes.
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }

    fn sign(&self, label: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        self.mac(label, parts).finalize().into_bytes().to_vec()
    }

    /// In constant time.
    fn verify(&self, label: &[u8], parts: &[&[u8]], mac: &[u8]) -> bool {
        self.mac(label, parts).verify_slice(mac).is_ok()
    }
}

impl fmt::Debug for HandshakeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HandshakeKey(secret)")
    }
}

struct OrNone(Option<MemberId>);

impl fmt::Display for OrNone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(member_id) => write!(formatter, "member {member_id}"),
            None => formatter.write_str("a server without an id"),
        }
    }
}

async fn in_time<T>(handshake: impl Future<Output = Result<T, HandshakeError>>) -> Result<T, HandshakeError> {
    tokio::time::timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), handshake)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut))
}

async fn connect_untimed<S>(
    stream: &mut S,
    key: &HandshakeKey,
    local: &LocalIdentity,
    expected: Option<MemberId>,
    wall_clock_ms: i64,
) -> Result<PeerIdentity, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let our_hello = hello()?;
    stream.write_all(MAGIC).await?;
    write_frame(stream, &our_hello).await?;
    let their_hello = read_frame(stream).await?;
    check_hello(&their_hello, &our_hello)?;

    let our_identity = encode_identity(local, expected, wall_clock_ms);
    let mac = key.sign(LABEL_CONNECTING, &[&our_hello, &their_hello, &our_identity]);
    let proof = wire::HandshakeProof { identity: our_identity.clone().into(), mac: mac.into() };
    write_frame(stream, &proof.encode_to_vec()).await?;

    let verdict = wire::HandshakeVerdict::decode(read_frame(stream).await?.as_slice())
        .map_err(|_| HandshakeError::Malformed("the verdict cannot be read"))?;
    // A refusal for the token cannot carry a proof; anything else must, or it comes from a stranger.
    let refusal = verdict.refusal.to_le_bytes();
    let parts: [&[u8]; 5] = [&our_hello, &their_hello, &our_identity, &verdict.identity, &refusal];
    if !key.verify(LABEL_ACCEPTING, &parts, &verdict.mac) {
        return Err(HandshakeError::WrongToken);
    }
    let peer = decode_identity(&verdict.identity)?.0;
    check_peer(local, &peer, expected)?;
    match verdict.refusal() {
        wire::HandshakeRefusal::None => Ok(peer),
        wire::HandshakeRefusal::WrongToken => Err(HandshakeError::WrongToken),
        // Both sides make the same checks, so that these are not reached unless the versions differ.
        _ => Err(HandshakeError::Malformed("peer refused for a reason that this server does not see")),
    }
}

async fn accept_untimed<S>(
    stream: &mut S,
    key: &HandshakeKey,
    local: &LocalIdentity,
    wall_clock_ms: i64,
) -> Result<PeerIdentity, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await?;
    if magic != *MAGIC {
        return Err(HandshakeError::Malformed(
            "it does not begin like one; is a client using the peer port?",
        ));
    }
    let their_hello = read_frame(stream).await?;
    let our_hello = hello()?;
    // Sent before the check, so that the other side sees the version too.
    write_frame(stream, &our_hello).await?;
    check_hello(&their_hello, &our_hello)?;

    let proof = wire::HandshakeProof::decode(read_frame(stream).await?.as_slice())
        .map_err(|_| HandshakeError::Malformed("the proof cannot be read"))?;
    if !key.verify(LABEL_CONNECTING, &[&their_hello, &our_hello, &proof.identity], &proof.mac) {
        let verdict = wire::HandshakeVerdict {
            refusal: wire::HandshakeRefusal::WrongToken.into(),
            ..wire::HandshakeVerdict::default()
        };
        write_frame(stream, &verdict.encode_to_vec()).await?;
        return Err(HandshakeError::WrongToken);
    }

    let checked = decode_identity(&proof.identity).and_then(|(peer, expected)| {
        check_expected(local, expected)?;
        check_peer(local, &peer, None)?;
        Ok(peer)
    });
    let refusal = match &checked {
        Ok(_) => wire::HandshakeRefusal::None,
        Err(HandshakeError::ForeignCluster { .. }) => wire::HandshakeRefusal::ForeignCluster,
        Err(HandshakeError::SameMember { .. }) => wire::HandshakeRefusal::SameMember,
        Err(_) => wire::HandshakeRefusal::WrongMember,
    };
    let identity = encode_identity(local, None, wall_clock_ms);
    let parts: [&[u8]; 5] =
        [&their_hello, &our_hello, &proof.identity, &identity, &i32::from(refusal).to_le_bytes()];
    let mac = key.sign(LABEL_ACCEPTING, &parts);
    let verdict =
        wire::HandshakeVerdict { refusal: refusal.into(), identity: identity.into(), mac: mac.into() };
    write_frame(stream, &verdict.encode_to_vec()).await?;
    checked
}

fn hello() -> Result<Vec<u8>, HandshakeError> {
    let mut nonce = vec![0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| HandshakeError::Random(error.to_string()))?;
    Ok(wire::HandshakeHello { protocol_version: PROTOCOL_VERSION, nonce: nonce.into() }.encode_to_vec())
}

fn check_hello(theirs: &[u8], ours: &[u8]) -> Result<(), HandshakeError> {
    if theirs == ours {
        return Err(HandshakeError::Malformed("it mirrors this server's own words"));
    }
    let hello = wire::HandshakeHello::decode(theirs)
        .map_err(|_| HandshakeError::Malformed("the hello cannot be read"))?;
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(HandshakeError::ProtocolVersion {
            ours: PROTOCOL_VERSION,
            theirs: hello.protocol_version,
        });
    }
    if hello.nonce.len() != NONCE_BYTES {
        return Err(HandshakeError::Malformed("the nonce has another length than 32 bytes"));
    }
    Ok(())
}

fn check_expected(local: &LocalIdentity, expected: Option<MemberId>) -> Result<(), HandshakeError> {
    match expected {
        Some(expected) if local.member_id != Some(expected) => {
            Err(HandshakeError::WrongMember { name: local.name.clone(), expected, actual: local.member_id })
        }
        _ => Ok(()),
    }
}

fn check_peer(
    local: &LocalIdentity,
    peer: &PeerIdentity,
    expected: Option<MemberId>,
) -> Result<(), HandshakeError> {
    if let (Some(ours), Some(theirs)) = (local.cluster_id, peer.cluster_id)
        && ours != theirs
    {
        return Err(HandshakeError::ForeignCluster { name: peer.name.clone(), ours, theirs });
    }
    if let Some(expected) = expected
        && peer.member_id != Some(expected)
    {
        let name = peer.name.clone();
        return Err(HandshakeError::WrongMember { name, expected, actual: peer.member_id });
    }
    match peer.member_id {
        Some(member_id) if local.member_id == Some(member_id) => {
            let is_itself = local.instance == peer.instance;
            Err(HandshakeError::SameMember { name: peer.name.clone(), member_id, is_itself })
        }
        _ => Ok(()),
    }
}

fn encode_identity(local: &LocalIdentity, expected: Option<MemberId>, wall_clock_ms: i64) -> Vec<u8> {
    wire::HandshakeIdentity {
        cluster_id: encode_cluster_id(local.cluster_id),
        member_id: local.member_id.map_or(0, |id| id.0),
        name: local.name.clone(),
        expected_member_id: expected.map_or(0, |id| id.0),
        wall_clock_ms,
        instance: local.instance,
    }
    .encode_to_vec()
}

fn decode_identity(bytes: &[u8]) -> Result<(PeerIdentity, Option<MemberId>), HandshakeError> {
    let identity = wire::HandshakeIdentity::decode(bytes)
        .map_err(|_| HandshakeError::Malformed("the identity cannot be read"))?;
    if identity.name.len() > HANDSHAKE_NAME_BYTES_MAX {
        return Err(HandshakeError::Malformed("the name is too long"));
    }
    let cluster_id = decode_cluster_id(&identity.cluster_id)
        .ok_or(HandshakeError::Malformed("the cluster id has another length than 16 bytes"))?;
    let peer = PeerIdentity {
        cluster_id,
        member_id: member_id(identity.member_id),
        name: identity.name,
        wall_clock_ms: identity.wall_clock_ms,
        instance: identity.instance,
    };
    Ok((peer, member_id(identity.expected_member_id)))
}

/// 0 on the wire is no member.
pub(crate) fn member_id(number: u64) -> Option<MemberId> {
    (number != 0).then_some(MemberId(number))
}

/// Empty bytes are no cluster.
pub(crate) fn encode_cluster_id(cluster_id: Option<ClusterId>) -> bytes::Bytes {
    cluster_id.map_or_else(bytes::Bytes::new, |id| id.0.to_be_bytes().to_vec().into())
}

/// Outer none: neither empty nor 16 bytes.
pub(crate) fn decode_cluster_id(bytes: &[u8]) -> Option<Option<ClusterId>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    Some(Some(ClusterId(u128::from_be_bytes(bytes))))
}

async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, frame: &[u8]) -> Result<(), HandshakeError> {
    let length = u32::try_from(frame.len()).map_err(|_| HandshakeError::Malformed("a frame is too long"))?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, HandshakeError> {
    let length = stream.read_u32().await? as usize;
    if length > HANDSHAKE_FRAME_BYTES_MAX {
        return Err(HandshakeError::Malformed("a frame is longer than any handshake frame"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn member(name: &str, id: u64) -> LocalIdentity {
        LocalIdentity {
            cluster_id: Some(CLUSTER),
            member_id: Some(MemberId(id)),
            name: name.to_owned(),
            instance: id,
        }
    }

    type Outcome = Result<PeerIdentity, HandshakeError>;

    async fn check(
        connecting: (&LocalIdentity, Option<&[u8]>, Option<u64>),
        accepting: (&LocalIdentity, Option<&[u8]>),
    ) -> (Outcome, Outcome) {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let (near_key, far_key) = (HandshakeKey::new(connecting.1), HandshakeKey::new(accepting.1));
        tokio::join!(
            connect(&mut near, &near_key, connecting.0, connecting.2.map(MemberId), 11),
            accept(&mut far, &far_key, accepting.0, 22),
        )
    }

    #[tokio::test]
    async fn both_sides_learn_who_the_other_is() {
        let (near, far) =
            check((&member("s1", 1), Some(b"secret"), Some(2)), (&member("s2", 2), Some(b"secret"))).await;
        let near = near.unwrap();
        assert_eq!((near.name.as_str(), near.member_id, near.wall_clock_ms), ("s2", Some(MemberId(2)), 22));
        let far = far.unwrap();
        assert_eq!((far.name.as_str(), far.member_id, far.wall_clock_ms), ("s1", Some(MemberId(1)), 11));
        assert_eq!(far.cluster_id, Some(CLUSTER));
    }

    #[tokio::test]
    async fn a_server_without_a_cluster_may_connect() {
        let newcomer = LocalIdentity { cluster_id: None, member_id: None, ..member("s3", 3) };
        let (near, far) = check((&newcomer, None, None), (&member("s1", 1), None)).await;
        assert_eq!(near.unwrap().cluster_id, Some(CLUSTER));
        assert_eq!(far.unwrap().member_id, None);
    }

    #[tokio::test]
    async fn another_token_is_refused_on_both_sides() {
        for (ours, theirs) in
            [(Some(b"a".as_slice()), Some(b"b".as_slice())), (Some(b"a"), None), (None, Some(b"a"))]
        {
            let (near, far) = check((&member("s1", 1), ours, None), (&member("s2", 2), theirs)).await;
            assert!(matches!(near, Err(HandshakeError::WrongToken)), "{near:?}");
            assert!(matches!(far, Err(HandshakeError::WrongToken)), "{far:?}");
        }
    }

    #[tokio::test]
    async fn a_foreign_cluster_is_refused_on_both_sides() {
        let foreign = LocalIdentity { cluster_id: Some(ClusterId(8)), ..member("s2", 2) };
        let (near, far) = check((&member("s1", 1), None, None), (&foreign, None)).await;
        assert!(matches!(near, Err(HandshakeError::ForeignCluster { .. })), "{near:?}");
        assert!(matches!(far, Err(HandshakeError::ForeignCluster { .. })), "{far:?}");
    }

    #[tokio::test]
    async fn a_wiped_member_is_not_taken_for_its_old_self() {
        let wiped = LocalIdentity { cluster_id: None, member_id: None, ..member("s2", 2) };
        let (near, far) = check((&member("s1", 1), None, Some(2)), (&wiped, None)).await;
        assert!(matches!(near, Err(HandshakeError::WrongMember { actual: None, .. })), "{near:?}");
        assert!(matches!(far, Err(HandshakeError::WrongMember { actual: None, .. })), "{far:?}");
    }

    #[tokio::test]
    async fn a_refusal_names_the_member_that_is_at_the_address() {
        let (near, far) = check((&member("s3", 3), None, Some(16)), (&member("s1", 1), None)).await;
        for refused in [near.unwrap_err(), far.unwrap_err()] {
            let text = refused.to_string();
            assert!(text.contains("wanted member 16, found member 1 (\"s1\")"), "{text}");
        }
    }

    #[tokio::test]
    async fn copies_of_one_folder_refuse_each_other() {
        for (instance, is_itself) in [(9, false), (1, true)] {
            let other = LocalIdentity { instance, ..member("s1", 1) };
            let (near, far) = check((&member("s1", 1), None, None), (&other, None)).await;
            for refused in [near.unwrap_err(), far.unwrap_err()] {
                let HandshakeError::SameMember { is_itself: said, .. } = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!(said, is_itself, "a server that reaches itself is no copy");
            }
        }
    }

    #[tokio::test]
    async fn an_accepting_side_that_does_not_know_the_token_cannot_pretend() {
        // A stranger that answers every proof with "fine": the connecting side must not believe it.
        let (mut near, mut far) = tokio::io::duplex(4096);
        let stranger = async {
            let mut magic = [0; 8];
            far.read_exact(&mut magic).await.unwrap();
            read_frame(&mut far).await.unwrap();
            write_frame(&mut far, &hello().unwrap()).await.unwrap();
            let proof = read_frame(&mut far).await.unwrap();
            let proof = wire::HandshakeProof::decode(proof.as_slice()).unwrap();
            let verdict = wire::HandshakeVerdict {
                refusal: 0,
                identity: encode_identity(&member("s2", 2), None, 0).into(),
                // The best it has: the other side's own proof.
                mac: proof.mac,
            };
            write_frame(&mut far, &verdict.encode_to_vec()).await.unwrap();
        };
        let key = HandshakeKey::new(Some(b"secret"));
        let local = member("s1", 1);
        let (result, ()) = tokio::join!(connect(&mut near, &key, &local, None, 0), stranger);
        assert!(matches!(result, Err(HandshakeError::WrongToken)), "{result:?}");
    }

    #[tokio::test]
    async fn bytes_that_are_no_handshake_are_refused() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let result = accept(&mut far, &HandshakeKey::new(None), &member("s1", 1), 0).await;
        assert!(matches!(result, Err(HandshakeError::Malformed(_))), "{result:?}");

        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(MAGIC).await.unwrap();
        near.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let result = accept(&mut far, &HandshakeKey::new(None), &member("s1", 1), 0).await;
        assert!(matches!(result, Err(HandshakeError::Malformed(_))), "{result:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up() {
        let (_near, mut far) = tokio::io::duplex(64);
        let result = accept(&mut far, &HandshakeKey::new(None), &member("s1", 1), 0).await;
        assert!(matches!(result, Err(HandshakeError::TimedOut)), "{result:?}");
    }
}
