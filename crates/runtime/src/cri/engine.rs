//! The engine, as one object with a method for each thing that is asked of it.
//!
//! Owns: the connection, how long each answer may take, what a refusal means. Does not own: what is asked for (`config`).

use super::api::CgroupDriver as EngineCgroupDriver;
use super::api::image_service_client::ImageServiceClient;
use super::api::runtime_service_client::RuntimeServiceClient;
use super::api::*;
use super::cgroup::CgroupDriver;
use super::config;
use super::exec::streaming::Wanted;
use super::relay;
use crate::{Error, limits};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status, Streaming};
use tower::service_fn;

/// A connection to an engine. Cheap to clone; connects again by itself.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    /// For calls that are to come to an end when this process is gone.
    lasting: RuntimeServiceClient<Channel>,
    socket: String,
}

/// An answer that is none.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub action: &'static str,
    pub code: Code,
    pub message: String,
}

impl Refusal {
    /// The engine has not said no: it is gone, starts, or is too slow. What was asked may still be carried out.
    pub fn is_silence(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
    }

    /// It did not answer in time.
    pub fn silence(action: &'static str, patience: Duration) -> Refusal {
        silence(action, patience.as_millis())
    }

    /// It answers, and says that it can't do anything yet.
    pub fn not_ready(why: &str) -> Refusal {
        Refusal { action: "use it", code: Code::Unavailable, message: format!("it is not ready: {why}") }
    }

    /// For people.
    pub fn problem(&self) -> String {
        format!("{}: {}", self.action, self.message)
    }

    /// There is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

/// What an engine says about itself.
#[derive(Debug)]
pub(super) struct EngineStatus {
    /// Conditions that are not true, with the reason.
    pub not_ready: BTreeMap<String, String>,
    pub driver: CgroupDriver,
    /// The image of its sandboxes, if it tells.
    pub sandbox_image: Option<String>,
}

/// What the engine says.
pub(super) type Answer<T> = Result<T, Refusal>;

impl Engine {
    /// Waits for nothing: the first call connects. `program`: what relays are started of.
    ///
    /// # Errors
    /// If the address is no `unix:///PATH`.
    pub fn new(socket: &str, program: PathBuf) -> Result<Engine, Error> {
        let refused =
            |message: String| Error::Engine { socket: socket.to_owned(), action: "connect", message };
        let Some(path) = socket.strip_prefix("unix://").filter(|path| path.starts_with('/')) else {
            return Err(refused("write its address as unix:///PATH".to_owned()));
        };
        let path = PathBuf::from(path);
        let endpoint =
            Endpoint::from_shared(socket.to_owned()).map_err(|error| refused(error.to_string()))?;
        let endpoint = endpoint.connect_timeout(Duration::from_millis(limits::ENGINE_CALL_MS));
        let connector = service_fn(move |_: Uri| {
            let connection = relay::connect(program.clone(), path.clone());
            async move { connection.await.map(TokioIo::new) }
        });
        let lasting = endpoint.connect_with_connector_lazy(connector);
        let channel = endpoint.connect_lazy();
        Ok(Engine {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(limits::ENGINE_ANSWER_BYTES_MAX),
            images: ImageServiceClient::new(channel)
                .max_decoding_message_size(limits::ENGINE_ANSWER_BYTES_MAX),
            lasting: RuntimeServiceClient::new(lasting),
            socket: socket.to_owned(),
        })
    }

    /// A refusal, as an error of this crate.
    pub fn error(&self, refusal: Refusal) -> Error {
        Error::Engine { socket: self.socket.clone(), action: refusal.action, message: refusal.message }
    }

    /// Its name, such as `containerd`, and its version.
    pub async fn version(&self) -> Answer<(String, String)> {
        let mut client = self.runtime.clone();
        let answer =
            call("ask its version", client.version(VersionRequest { version: "v1".to_owned() })).await?;
        Ok((answer.runtime_name, answer.runtime_version))
    }

    /// How it is, and how it is set up.
    pub async fn status(&self) -> Answer<EngineStatus> {
        let mut client = self.runtime.clone();
        let answer = call("ask its status", client.status(StatusRequest { verbose: true })).await?;
        let conditions = answer.status.unwrap_or_default().conditions.into_iter();
        let not_ready = conditions
            .filter(|condition| !condition.status)
            .map(|condition| (condition.r#type, format!("{}: {}", condition.reason, condition.message)))
            .collect();
        let driver = match call("ask its cgroup driver", client.runtime_config(RuntimeConfigRequest {})).await
        {
            Ok(answer) => match answer.linux.unwrap_or_default().cgroup_driver() {
                EngineCgroupDriver::Systemd => CgroupDriver::Systemd,
                EngineCgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
            },
            Err(refusal) if refusal.code == Code::Unimplemented => {
                config::cgroup_driver_of_info(&answer.info)
            }
            Err(refusal) => return Err(refusal),
        };
        Ok(EngineStatus { not_ready, driver, sandbox_image: config::sandbox_image_of_info(&answer.info) })
    }

    pub async fn run_sandbox(&self, config: PodSandboxConfig) -> Answer<String> {
        let mut client = self.runtime.clone();
        let request = RunPodSandboxRequest { config: Some(config) };
        let patience = limits::ENGINE_SANDBOX_MS;
        Ok(call_within(patience, "make a sandbox", client.run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    /// Kills and removes a sandbox with its containers. None of that id is a success.
    pub async fn remove_sandbox(&self, id: &str) -> Answer<()> {
        let mut client = self.runtime.clone();
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let stopped =
            call_within(limits::ENGINE_STOP_MS, "stop a sandbox", client.stop_pod_sandbox(request)).await;
        ignore_not_found(stopped)?;
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let action = "remove a sandbox";
        ignore_not_found(
            call_within(limits::ENGINE_STOP_MS, action, client.remove_pod_sandbox(request)).await,
        )
    }

    /// Its status, and the process id of what holds its namespaces, if it has one.
    pub async fn sandbox_status(&self, id: &str) -> Answer<(PodSandboxStatus, Option<i32>)> {
        let mut client = self.runtime.clone();
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let answer = call("ask about a sandbox", client.pod_sandbox_status(request)).await?;
        Ok((answer.status.unwrap_or_default(), config::pid_of_info(&answer.info)))
    }

    /// All that have these labels.
    pub async fn sandboxes(&self, label_selector: BTreeMap<String, String>) -> Answer<Vec<PodSandbox>> {
        let mut client = self.runtime.clone();
        let request = ListPodSandboxRequest { filter: Some(PodSandboxFilter { label_selector }) };
        Ok(call("list sandboxes", client.list_pod_sandbox(request)).await?.items)
    }

    pub async fn create_container(&self, request: CreateContainerRequest) -> Answer<String> {
        let mut client = self.runtime.clone();
        let patience = limits::ENGINE_SANDBOX_MS;
        Ok(call_within(patience, "make a container", client.create_container(request)).await?.container_id)
    }

    /// Begun at once. Whoever stops waiting leaves the call open, and so does the end of this process, so that the engine brings the
    /// start to an end of its own rather than give it up half way.
    pub fn start_container(&self, id: String) -> impl Future<Output = Answer<()>> + Send + use<> {
        let action = "start a container";
        let mut client = self.lasting.clone();
        let request = StartContainerRequest { container_id: id };
        let call = tokio::spawn(async move {
            call_within(limits::ENGINE_SANDBOX_MS, action, client.start_container(request)).await.map(drop)
        });
        async move {
            match call.await {
                Ok(answer) => answer,
                Err(failure) => Err(Refusal { action, code: Code::Internal, message: failure.to_string() }),
            }
        }
    }

    /// Removes a container that was never started. Refused while it is being started; none of that id is a success.
    pub async fn remove_unstarted(&self, id: &str) -> Answer<()> {
        let mut client = self.runtime.clone();
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        let action = "remove a container";
        ignore_not_found(call_within(limits::ENGINE_STOP_MS, action, client.remove_container(request)).await)
    }

    /// Kills a container, if it runs. None of that id is a success.
    pub async fn kill_container(&self, id: &str) -> Answer<()> {
        let mut client = self.runtime.clone();
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: 0 };
        let action = "stop a container";
        ignore_not_found(call_within(limits::ENGINE_STOP_MS, action, client.stop_container(request)).await)
    }

    /// Kills a container, if it runs, and removes it. None of that id is a success.
    pub async fn remove_container(&self, id: &str) -> Answer<()> {
        self.kill_container(id).await?;
        self.remove_unstarted(id).await
    }

    /// All that have these labels, also those that have ended.
    pub async fn containers(&self, label_selector: BTreeMap<String, String>) -> Answer<Vec<Container>> {
        let mut client = self.runtime.clone();
        let request = ListContainersRequest { filter: Some(ContainerFilter { label_selector }) };
        Ok(call("list containers", client.list_containers(request)).await?.containers)
    }

    /// Its status, and the process id of its main process while it has one.
    pub async fn container_status(&self, id: &str) -> Answer<(ContainerStatus, Option<i32>)> {
        let mut client = self.runtime.clone();
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer = call("ask about a container", client.container_status(request)).await?;
        Ok((answer.status.unwrap_or_default(), config::pid_of_info(&answer.info)))
    }

    pub async fn reopen_log(&self, id: &str) -> Answer<()> {
        let mut client = self.runtime.clone();
        let request = ReopenContainerLogRequest { container_id: id.to_owned() };
        call("rotate a log", client.reopen_container_log(request)).await.map(drop)
    }

    /// Has a program prepared; answers the address at which it is begun and talked to.
    pub async fn exec(&self, id: &str, command: Vec<String>, wanted: &Wanted) -> Answer<String> {
        let mut client = self.runtime.clone();
        let request = ExecRequest {
            container_id: id.to_owned(),
            cmd: command,
            tty: wanted.terminal.is_some(),
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        Ok(call("run a program", client.exec(request)).await?.url)
    }

    /// Has a container's own streams prepared; answers the address at which they are.
    pub async fn attach(&self, id: &str, wanted: &Wanted) -> Answer<String> {
        let mut client = self.runtime.clone();
        let request = AttachRequest {
            container_id: id.to_owned(),
            stdin: wanted.stdin,
            tty: wanted.terminal.is_some(),
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        Ok(call("attach to a container", client.attach(request)).await?.url)
    }

    pub async fn container_stats(&self, id: &str) -> Answer<ContainerStats> {
        let mut client = self.runtime.clone();
        let request = ContainerStatsRequest { container_id: id.to_owned() };
        Ok(call("ask what a container uses", client.container_stats(request))
            .await?
            .stats
            .unwrap_or_default())
    }

    /// Tells of containers that begin and end; `Unimplemented` with older engines.
    pub async fn events(&self) -> Answer<Streaming<ContainerEventResponse>> {
        let mut client = self.runtime.clone();
        call("watch containers", client.get_container_events(GetEventsRequest {})).await
    }

    /// An image that the node has, and what else the engine tells of it.
    pub async fn image(&self, reference: &str) -> Answer<Option<(Image, BTreeMap<String, String>)>> {
        let mut client = self.images.clone();
        let image = Some(ImageSpec { image: reference.to_owned() });
        let answer =
            call("ask about an image", client.image_status(ImageStatusRequest { image, verbose: true }))
                .await?;
        Ok(answer.image.map(|image| (image, answer.info)))
    }

    /// Fetches an image; resolves to its id.
    pub async fn pull(&self, reference: &str, auth: Option<AuthConfig>) -> Answer<String> {
        let mut client = self.images.clone();
        let request = PullImageRequest { image: Some(ImageSpec { image: reference.to_owned() }), auth };
        Ok(call_within(limits::IMAGE_PULL_MS, "pull", client.pull_image(request)).await?.image_ref)
    }

    pub async fn all_images(&self) -> Answer<Vec<Image>> {
        let mut client = self.images.clone();
        Ok(call("list images", client.list_images(ListImagesRequest { filter: None })).await?.images)
    }

    pub async fn remove_image(&self, id: &str) -> Answer<()> {
        let mut client = self.images.clone();
        let request = RemoveImageRequest { image: Some(ImageSpec { image: id.to_owned() }) };
        let action = "remove an image";
        ignore_not_found(call_within(limits::ENGINE_STOP_MS, action, client.remove_image(request)).await)
    }

    /// Folders in which images are kept.
    pub async fn image_folders(&self) -> Answer<Vec<String>> {
        let mut client = self.images.clone();
        let answer = call("ask where images are", client.image_fs_info(ImageFsInfoRequest {})).await?;
        let folders = answer.image_filesystems.into_iter().filter_map(|usage| usage.fs_id);
        Ok(folders.map(|id| id.mountpoint).collect())
    }
}

async fn call<T>(
    action: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Refusal> {
    call_within(limits::ENGINE_CALL_MS, action, answer).await
}

async fn call_within<T>(
    patience_ms: u64,
    action: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(Duration::from_millis(patience_ms), answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(refusal(action, &status)),
        Err(_) => Err(silence(action, patience_ms.into())),
    }
}

fn silence(action: &'static str, patience_ms: u128) -> Refusal {
    let message = format!("no answer within {patience_ms} ms");
    Refusal { action, code: Code::DeadlineExceeded, message }
}

fn refusal(action: &'static str, status: &Status) -> Refusal {
    let message = status.message().chars().take(limits::ENGINE_MESSAGE_CHARS_MAX).collect();
    Refusal { action, code: status.code(), message }
}

fn ignore_not_found<T>(answer: Answer<T>) -> Answer<()> {
    match answer {
        Err(refusal) if !refusal.is_not_found() => Err(refusal),
        _ => Ok(()),
    }
}
