/// Runs an example against the cluster that STINT_EXAMPLES_SERVER names; without it the example is only compiled.
/// tests/run.sh sets it.
fn example<Body>(body: Body)
where
    Body: AsyncFnOnce(stint_client::Client) -> Result<(), stint_client::Error>,
{
    let Ok(addresses) = std::env::var("STINT_EXAMPLES_SERVER") else { return };
    let options = stint_client::ClientOptions::new(&addresses).with_timeout(std::time::Duration::from_secs(60));
    let client = stint_client::Client::new(options).expect("STINT_EXAMPLES_SERVER is an address");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(body(client)).expect("the example ends well");
}
