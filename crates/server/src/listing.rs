//! Lists: page by page, all pages of one list as of one revision.
//!
//! Owns: pages, their limits, continue tokens, the threads that hold a view for the next page. Does not own: filters
//! (`objects`).
//!
//! Invariants: every page of a list is read from the same view, with the filter of its first page; a token that comes with
//! another filter is refused; one whose view is gone is `Expired`, never answered from another view; held views are bounded in number and age.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prost::Message;
use stint_api::{JobUid, NodeName, Revision};
use stint_core::{PodKey, RowKey, RowRange};
use stint_proto::limits::{LIST_PAGE_ITEMS_DEFAULT, LIST_PAGE_ITEMS_MAX, PAGE_BYTES_MAX};
use stint_proto::v1;
use tokio::sync::oneshot;
use tonic::Status;

use crate::error;
use crate::limits::{
    CONTINUE_TOKEN_BYTES_MAX, LIST_KEPT_MS, LIST_LIFE_MS, LIST_SCAN_CHUNK_ROWS, LIST_SCAN_ROWS_MAX,
    LISTS_OPEN_MAX,
};
use crate::objects::{Query, RowReader};
use crate::reads::Reads;

/// Lists that are not finished, each with a thread that holds its view and waits for the next page to be asked for.
#[derive(Debug, Default)]
pub struct Lists {
    open: Mutex<VecDeque<OpenList>>,
    /// The server stops: no thread waits any more.
    closed: AtomicBool,
}

#[derive(Debug)]
struct OpenList {
    id: u64,
    revision: Revision,
    question: Question,
    opened_at: Instant,
    pages: std::sync::mpsc::Sender<PageOrder>,
}

/// What a list asked for, as far as it takes to notice that a later page asks for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question(u64);

impl Question {
    fn of<Q: Query>(query: &Q) -> Question {
        let mut hasher = DefaultHasher::new();
        TypeId::of::<Q>().hash(&mut hasher);
        query.hash(&mut hasher);
        Question(hasher.finish())
    }
}

/// Asks the thread of a list for a page. The objects' type is the list's own.
#[derive(Debug)]
struct PageOrder {
    after: RowKey,
    limits: ScanLimits,
    answer: Box<dyn Any + Send>,
}

/// What a list request says of paging.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// Objects wanted; 0: the default.
    pub limit: u32,
    /// From the previous page; empty for the first.
    pub continue_token: String,
    /// A stale answer will do.
    pub stale: bool,
}

/// One page.
#[derive(Debug)]
pub struct Page<T> {
    /// Revision and next page.
    pub metadata: v1::ListMeta,
    /// Its objects.
    pub items: Vec<T>,
}

/// Part of a scan.
#[derive(Debug)]
pub struct Scanned<T> {
    /// What passed the filter.
    pub items: Vec<T>,
    /// The last row looked at, if there are more; None at the end.
    pub more_after: Option<RowKey>,
}

/// How much of a scan to do.
#[derive(Debug, Clone, Copy)]
pub struct ScanLimits {
    /// Objects.
    pub items: usize,
    /// Bytes of encoded objects; exceeded by at most one object.
    pub bytes: usize,
    /// Rows looked at.
    pub rows: usize,
}

type PageAnswer<T> = oneshot::Sender<Result<(Scanned<T>, Revision), Status>>;

/// Answers one list request.
pub async fn list<Q: Query>(
    query: Q,
    request: PageRequest,
    reads: &Reads,
    lists: &Arc<Lists>,
) -> Result<Page<Q::Object>, Status> {
    let items =
        if request.limit == 0 { LIST_PAGE_ITEMS_DEFAULT } else { request.limit.min(LIST_PAGE_ITEMS_MAX) };
    let limits = ScanLimits { items: items as usize, bytes: PAGE_BYTES_MAX, rows: LIST_SCAN_ROWS_MAX };
    let (answer, page) = oneshot::channel();
    let id = if request.continue_token.is_empty() {
        if !request.stale {
            reads.confirm().await?;
        }
        let id = getrandom::u64().map_err(|failed| error::internal("drawing a random number", &failed))?;
        let (reads, lists) = (reads.clone(), Arc::clone(lists));
        tokio::spawn(async move {
            let serve = move |reader: &mut RowReader<'_>| {
                serve_pages(&query, reader, limits, answer, id, &lists);
                Ok(())
            };
            // The caller sees a failed read as an answer that never comes.
            if let Err(failed) = reads.rows(true, serve).await {
                tracing::debug!(%failed, "a list could not be read");
            }
        });
        id
    } else {
        let token = ContinueToken::parse(&request.continue_token)?;
        let answer: PageAnswer<Q::Object> = answer;
        lists.ask(&token, Question::of(&query), limits, Box::new(answer))?;
        token.list
    };
    let (scanned, revision) = page.await.map_err(|_| error::list_expired())??;
    let continue_token = match scanned.more_after {
        Some(after) => ContinueToken { list: id, revision, after }.to_string(),
        None => String::new(),
    };
    let metadata = v1::ListMeta { resource_version: revision.0, continue_token, remaining_item_count: None };
    Ok(Page { metadata, items: scanned.items })
}

/// Scans the first page, then waits for further ones to be asked for, all from one view.
fn serve_pages<Q: Query>(
    query: &Q,
    reader: &mut RowReader<'_>,
    limits: ScanLimits,
    answer: PageAnswer<Q::Object>,
    id: u64,
    lists: &Lists,
) {
    let revision = reader.view().revision();
    let first = scan(query, reader, None, limits);
    let more = matches!(&first, Ok(Scanned { more_after: Some(_), .. }));
    // Known before the answer goes out: the next page may be asked for at once.
    let orders = more.then(|| lists.open(id, revision, Question::of(query)));
    // Who has gone away needs no answer.
    let _ = answer.send(first.map(|scanned| (scanned, revision)));
    let Some(orders) = orders else { return };
    while let Ok(order) = orders.recv_timeout(Duration::from_millis(LIST_KEPT_MS)) {
        let Ok(answer) = order.answer.downcast::<PageAnswer<Q::Object>>() else { continue };
        let page = scan(query, reader, Some(order.after), order.limits);
        let ended = matches!(&page, Ok(Scanned { more_after: None, .. }));
        let _ = answer.send(page.map(|scanned| (scanned, revision)));
        if ended {
            break;
        }
    }
    lists.close(id);
}

/// Looks at rows until a limit is reached or there are no more.
pub fn scan<Q: Query>(
    query: &Q,
    reader: &mut RowReader<'_>,
    after: Option<RowKey>,
    limits: ScanLimits,
) -> Result<Scanned<Q::Object>, Status> {
    let (mut from, to) = query.range(reader)?;
    if let Some(after) = after {
        if !within(&after, &from, &to) {
            return Err(bad_token());
        }
        from = Bound::Excluded(after);
    }
    let (mut items, mut bytes, mut rows) = (Vec::new(), 0, 0);
    let view = reader.view();
    loop {
        let limit = LIST_SCAN_CHUNK_ROWS.min(limits.rows.saturating_sub(rows)).max(1);
        let range = RowRange { from: from.clone(), to: to.clone(), limit };
        let chunk = view.scan(&range).map_err(|failed| error::internal("listing rows", &failed))?;
        let n_rows = chunk.len();
        for (position, (key, stored)) in chunk.into_iter().enumerate() {
            rows += 1;
            if let Some(object) = query.listed(reader, &key, &stored)? {
                bytes += object.encoded_len();
                items.push(object);
            }
            let full = items.len() >= limits.items || bytes >= limits.bytes || rows >= limits.rows;
            if full {
                let last_of_all = position + 1 == n_rows && n_rows < limit;
                return Ok(Scanned { items, more_after: (!last_of_all).then_some(key) });
            }
            from = Bound::Excluded(key);
        }
        if n_rows < limit {
            return Ok(Scanned { items, more_after: None });
        }
    }
}

fn within(key: &RowKey, from: &Bound<RowKey>, to: &Bound<RowKey>) -> bool {
    let after_start = match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    };
    let before_end = match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    };
    after_start && before_end
}

impl Lists {
    /// Notes a list with further pages; the oldest goes if there are too many.
    fn open(&self, id: u64, revision: Revision, question: Question) -> std::sync::mpsc::Receiver<PageOrder> {
        let (pages, orders) = std::sync::mpsc::channel();
        let mut open = self.open.lock();
        if self.closed.load(Ordering::Acquire) {
            return orders;
        }
        while open.len() >= LISTS_OPEN_MAX {
            // Its thread sees the channel close and ends.
            open.pop_front();
        }
        open.push_back(OpenList { id, revision, question, opened_at: Instant::now(), pages });
        orders
    }

    fn ask(
        &self,
        token: &ContinueToken,
        question: Question,
        limits: ScanLimits,
        answer: Box<dyn Any + Send>,
    ) -> Result<(), Status> {
        let open = self.open.lock();
        let list = open.iter().find(|list| list.id == token.list && list.revision == token.revision);
        let list = list.filter(|list| list.opened_at.elapsed() < Duration::from_millis(LIST_LIFE_MS));
        let list = list.ok_or_else(error::list_expired)?;
        if list.question != question {
            return Err(other_question());
        }
        let order = PageOrder { after: token.after.clone(), limits, answer };
        list.pages.send(order).map_err(|_| error::list_expired())
    }

    fn close(&self, id: u64) {
        self.open.lock().retain(|list| list.id != id);
    }

    /// Ends all threads that hold views.
    pub fn close_all(&self) {
        let mut open = self.open.lock();
        self.closed.store(true, Ordering::Release);
        open.clear();
    }
}

/// Where a list goes on. Opaque to clients; whatever they send is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ContinueToken {
    list: u64,
    revision: Revision,
    after: RowKey,
}

impl std::fmt::Display for ContinueToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "1/{:x}/{}/", self.list, self.revision)?;
        match &self.after {
            RowKey::JobName { namespace, name } => write!(formatter, "j/{namespace}/{name}"),
            RowKey::Pod(key) => write!(formatter, "p/{}/{}", key.job, key.created_revision),
            RowKey::Node(name) => write!(formatter, "n/{name}"),
            RowKey::Event { kind, object, reason } => write!(formatter, "e/{kind}/{object}/{reason}"),
            RowKey::ConfigMap { namespace, name } => write!(formatter, "c/{namespace}/{name}"),
            // Not listed.
            RowKey::Meta
            | RowKey::Job(_)
            | RowKey::Template(_)
            | RowKey::PodName { .. }
            | RowKey::Tombstone { .. }
            | RowKey::LogTail(_)
            | RowKey::History(_) => formatter.write_str("-"),
        }
    }
}

impl ContinueToken {
    fn parse(text: &str) -> Result<ContinueToken, Status> {
        if text.len() > CONTINUE_TOKEN_BYTES_MAX {
            return Err(bad_token());
        }
        ContinueToken::parts(text).ok_or_else(bad_token)
    }

    fn parts(text: &str) -> Option<ContinueToken> {
        let (version, rest) = text.split_once('/')?;
        let (list, rest) = rest.split_once('/')?;
        let (revision, rest) = rest.split_once('/')?;
        let (kind, key) = rest.split_once('/')?;
        if version != "1" {
            return None;
        }
        let fields: Vec<&str> = key.split('/').collect();
        let after = match (kind, fields.as_slice()) {
            ("j", [namespace, name]) => {
                RowKey::JobName { namespace: (*namespace).to_owned(), name: (*name).to_owned() }
            }
            ("c", [namespace, name]) => {
                RowKey::ConfigMap { namespace: (*namespace).to_owned(), name: (*name).to_owned() }
            }
            ("p", [job, created]) => RowKey::Pod(PodKey {
                job: job.parse::<JobUid>().ok()?,
                created_revision: Revision(created.parse().ok()?),
            }),
            ("n", [name]) => RowKey::Node(NodeName::new(name)),
            ("e", [kind, object, reason]) => RowKey::Event {
                kind: (*kind).to_owned(),
                object: (*object).to_owned(),
                reason: (*reason).to_owned(),
            },
            _ => return None,
        };
        let list = u64::from_str_radix(list, 16).ok()?;
        Some(ContinueToken { list, revision: Revision(revision.parse().ok()?), after })
    }
}

fn bad_token() -> Status {
    error::bad_request(
        "continueToken",
        "cannot be read: give the token of the previous page of the same list, or none",
    )
}

fn other_question() -> Status {
    error::bad_request(
        "continueToken",
        "is of a list with another filter: the other fields must be as they were, or begin the list anew without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for after in [
            RowKey::JobName { namespace: "default".to_owned(), name: "a.b-c".to_owned() },
            RowKey::Pod(PodKey { job: JobUid(7), created_revision: Revision(9) }),
            RowKey::Node(NodeName::new("w1")),
            RowKey::Event { kind: "Job".to_owned(), object: "u".to_owned(), reason: "Completed".to_owned() },
        ] {
            let token = ContinueToken { list: 0xfeed, revision: Revision(12), after };
            assert_eq!(ContinueToken::parse(&token.to_string()).expect("our own token"), token);
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = "x".repeat(CONTINUE_TOKEN_BYTES_MAX + 1);
        for text in [
            "x",
            "1",
            "1/",
            "2/1/1/n/w1",
            "1/zz/1/n/w1",
            "1/1/-1/n/w1",
            "1/1/1/p/1/2",
            "1/1/1/j/a",
            "1/1/1/q/a",
            "1/1/1/-",
            "1/1/1/n/a/b",
            "../../etc/passwd",
            &long,
        ] {
            let status = ContinueToken::parse(text).expect_err(text);
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
        }
    }
}
