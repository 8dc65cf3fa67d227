//! What the screen shows, as the servers tell it again and again.

use std::time::{Duration, Instant};
use stint_client::{Client, v1};
use tokio::sync::{mpsc, watch};

use super::model::Tab;

/// Of each kind: what fits on large screens, and what can be scrolled through.
const ITEMS: u32 = 200;
/// When the leader has not answered for so long, the servers are asked what is wrong.
const DOUBT: Duration = Duration::from_secs(2);

/// What came of asking.
#[derive(Debug)]
pub enum News {
    /// A new picture.
    Picture(Box<Picture>),
    /// There is none: why.
    Trouble(String),
}

/// The cluster at one moment.
#[derive(Debug, Clone)]
pub struct Picture {
    pub overview: v1::OverviewResponse,
    /// What nodes use, if nodes are shown.
    pub usage: Vec<v1::NodeUsage>,
    pub taken: Instant,
}

/// Asks until it is dropped.
pub struct Feed {
    news: mpsc::Receiver<News>,
    tab: watch::Sender<Tab>,
}

impl Feed {
    pub fn begin(client: Client, interval: Duration) -> Feed {
        // One picture: a newer one waits until it is shown.
        let (sender, news) = mpsc::channel(1);
        let (tab, shown) = watch::channel(Tab::Jobs);
        tokio::spawn(ask(client, interval, shown, sender));
        Feed { news, tab }
    }

    /// The next answer. May be given up and called again.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// What is shown from now on: not everything is asked for always.
    pub fn show(&self, tab: Tab) {
        self.tab.send_if_modified(|shown| std::mem::replace(shown, tab) != tab);
    }
}

async fn ask(
    client: Client,
    interval: Duration,
    mut shown: watch::Receiver<Tab>,
    sender: mpsc::Sender<News>,
) {
    loop {
        let tab = *shown.borrow_and_update();
        let news = tokio::select! {
            news = picture(&client, tab) => news,
            () = tell_of_trouble(&client, &sender) => return,
        };
        if sender.send(news).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = shown.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn picture(client: &Client, tab: Tab) -> News {
    let usage = async {
        match tab {
            // A node that does not say what it uses is shown without.
            Tab::Nodes => client.node_usage("").await.unwrap_or_default(),
            _ => Vec::new(),
        }
    };
    match tokio::join!(client.overview(ITEMS), usage) {
        (Ok(overview), usage) => News::Picture(Box::new(Picture { overview, usage, taken: Instant::now() })),
        (Err(error), _) => News::Trouble(error.to_string()),
    }
}

/// While an answer is waited for: what any server says of the cluster. Returns when nobody listens any more.
async fn tell_of_trouble(client: &Client, sender: &mpsc::Sender<News>) {
    loop {
        tokio::time::sleep(DOUBT).await;
        let text = match tokio::time::timeout(DOUBT, client.cluster_status()).await {
            Ok(Ok(status)) if status.leader.is_none() => {
                format!("no leader: {} answers, and no majority does", status.answered_by)
            }
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no server answers".to_owned(),
        };
        if sender.send(News::Trouble(text)).await.is_err() {
            return;
        }
    }
}
