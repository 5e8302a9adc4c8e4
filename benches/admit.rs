//! The line alone: every check of one call, without sockets.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use tollgate::actions::Actions;
use tollgate::admit::{Line, Request, RequestHead, admit};
use tollgate::denial::Denial;
use tollgate::limit::{FailedLogins, Limiter};
use tollgate::outcome::Findings;
use tollgate::snapshot::Snapshot;
use tollgate::time::Clock;

use crate::world::{World, device};

/// A request in memory.
struct Call {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request for Call {
    fn head(&self) -> RequestHead<'_> {
        RequestHead { method: &self.method, target: &self.target, headers: &self.headers, address: None }
    }

    async fn read_body(&mut self, _max: usize) -> Result<Bytes, Denial> {
        Ok(self.body.clone())
    }
}

pub(crate) fn bench(c: &mut Criterion) {
    let clock = Clock::System;
    let world = World::new(&clock);
    let snapshot = Snapshot::compile(&world.files, None, clock.wall()).unwrap();
    let line =
        Line { limiter: Limiter::new(), logins: FailedLogins::new(), actions: Actions::new(1_000), clock };
    let calls: Vec<_> =
        world.tokens.iter().zip(0..).map(|(token, number)| call(Some(token), number)).collect();
    let stranger = vec![call(None, 0)];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

    let mut group = c.benchmark_group("admit");
    for (name, mut calls) in [("admitted", calls), ("no token", stranger)] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            let mut number = 0;
            b.iter(|| {
                number = (number + 1) % calls.len();
                let mut found = Findings::default();
                let decision = runtime.block_on(admit(&line, &snapshot, &mut calls[number], &mut found));
                // What a forwarded call does: its charge stays.
                black_box(decision.map(|mut permit| permit.forwarded()).is_ok())
            });
        });
    }
    group.finish();
}

fn call(token: Option<&String>, number: u64) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    }
    Call {
        method: Method::POST,
        target: format!("/api/machines/{}/collectInvestigationPackage", device(number)),
        headers,
        body: Bytes::from_static(br#"{"Comment":"Collect forensics due to alert 1234"}"#),
    }
}
