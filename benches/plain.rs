//! What the gateway is measured against: a proxy that decides nothing, and an upstream that does nothing.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::modules::http::HttpModules;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::gateway::{bind, listen};

/// The body of every answer of the upstream.
pub(crate) const ANSWER: &str = r#"{"id":"2e9da30d-27f6-4208-81f2-9cd3d67893ba","type":"CollectInvestigationPackage","status":"Pending"}"#;

struct Plain {
    upstream: SocketAddr,
}

/// A proxy that refuses every request, and keeps the connection.
struct Refusing;

/// The body of its refusals: as long as one of the gateway's.
const REFUSAL: &str = r#"{"error":{"code":"Unauthorized","message":"no token: `Authorization: Bearer` is missing","target":"2e9da30d-27f6-4208-81f2-9cd3d67893ba"}}"#;

#[async_trait]
impl ProxyHttp for Refusing {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> pingora::Result<bool> {
        let mut header = ResponseHeader::build_no_case(401, Some(2))?;
        header.insert_header("Content-Type", "application/json")?;
        header.insert_header("Content-Length", REFUSAL.len())?;
        let downstream = session.as_downstream_mut();
        // A body that is not read would end the connection.
        downstream.drain_request_body().await?;
        downstream.write_response_header(Box::new(header)).await?;
        downstream.write_response_body(Bytes::from_static(REFUSAL.as_bytes()), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        pingora::Error::e_explain(pingora::ErrorType::InternalError, "nothing is forwarded")
    }
}

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Runs the proxy for ever, on one thread.
pub(crate) fn proxy(upstream: SocketAddr) {
    serve(Plain { upstream });
}

/// Runs the one that refuses.
pub(crate) fn refusing() {
    serve(Refusing);
}

fn serve<P>(proxy: P)
where
    P: ProxyHttp<CTX = ()> + Send + Sync + 'static,
{
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 1_024, ..ServerConf::default() };
    let mut server = pingora::server::Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, proxy);
    // Between the two the port is free for a moment; nothing else on the machine asks for it. Said only once it is free:
    // whoever connects to the first socket would be sent away with it.
    let address = bind().local_addr().unwrap();
    eprintln!("address {address}");
    service.add_tcp(&address.to_string());
    server.add_service(service);
    server.run_forever();
}

/// Answers 201 for ever, on one thread, without looking at more than where a request ends.
pub(crate) fn upstream() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listen()).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(answer(stream));
        }
    });
}

async fn answer(mut stream: tokio::net::TcpStream) {
    let answer = format!(
        "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut buffer = vec![0; 8_192];
    let mut length = 0;
    loop {
        match stream.read(&mut buffer[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => length += read,
        }
        // Every request of the benchmark ends with the end of its JSON object.
        if buffer[..length].ends_with(b"\"}") {
            length = 0;
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
