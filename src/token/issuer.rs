//! `issuers.toml`: from what is written to what [`Verifier`] knows.

mod document;

pub(crate) use document::schema;
mod rules;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use toml::Spanned;

use super::cache::CacheRules;
use super::cloud::{CLOUDS, Cloud, LoginHost};
use super::discovery::{self, Discovery, ExpectedIssuer};
use super::keys::KeySet;
use super::ring::{IssuerKeys, KeyRing, KeySource};
use super::route::{CloudRoute, IssuerRoute, Routes, Taken};
use super::template::{PLACEHOLDER, Template};
use super::verifier::Verifier;
use crate::id::TenantId;
use crate::source::{PolicyFiles, Problems, SourceFile};

use document::{IssuerDocument, Word};

/// What compiling an entry needs to know, and where its results and mistakes go.
struct Compiler<'a> {
    clouds: &'static [Cloud],
    files: &'a PolicyFiles,
    source: &'a SourceFile,
    problems: &'a mut Problems,
    /// The keys of the load before.
    previous: &'a [IssuerKeys],
    bell: Arc<Notify>,
    /// `keep_keys` at the head of the file.
    keep: Duration,
    keys: Vec<IssuerKeys>,
    routes: Routes,
    names: HashSet<Arc<str>>,
    /// Whom each entry believes, and where that is written.
    authorities: Vec<(Arc<str>, Authority, Range<usize>)>,
    /// Which tenants belong to which login host, and where that is written.
    presets: Vec<(LoginHost, TenantId, Range<usize>)>,
}

/// Who says which keys an issuer has.
#[derive(Debug, PartialEq, Eq)]
enum Authority {
    /// The host of its discovery document.
    Host(String),
    /// The policy set, where its keys stand in a file.
    Policy,
}

const FILE: &str = "issuers.toml";

/// Compiles the file. See [`Verifier::compile`].
pub(super) fn compile(files: &PolicyFiles, previous: Option<&Verifier>, problems: &mut Problems) -> Verifier {
    compile_in(&CLOUDS, files, previous, problems)
}

/// Compiles the file in a world of these clouds.
pub(super) fn compile_in(
    clouds: &'static [Cloud],
    files: &PolicyFiles,
    previous: Option<&Verifier>,
    problems: &mut Problems,
) -> Verifier {
    let Some(source) = files.require(FILE, problems) else { return Verifier::default() };
    let Some(mut file) = source.toml(problems) else { return Verifier::default() };
    let skew = file.value::<String>("clock_skew", problems);
    let keep = file.value::<String>("keep_keys", problems);
    let cache = CacheRules::read(&mut file, problems);
    let documents = file.entries::<IssuerDocument>("issuer", problems);
    file.finish(problems);

    let mut compiler = Compiler {
        clouds,
        files,
        source,
        problems,
        previous: previous.map_or(&[], Verifier::keys),
        bell: previous.map(|previous| previous.bell().clone()).unwrap_or_default(),
        keep: rules::DEFAULT_KEEP,
        keys: Vec::new(),
        routes: Routes::default(),
        names: HashSet::new(),
        authorities: Vec::new(),
        presets: Vec::new(),
    };
    let skew = compiler.skew(skew);
    compiler.keep = compiler.keep(keep);
    for document in documents {
        compiler.entry(document);
    }
    compiler.no_second_judge();
    compiler.warn_of_strangers();
    let Compiler { routes, keys, bell, .. } = compiler;
    Verifier::new(skew, routes, keys, bell, cache, previous)
}

// === impl Compiler ===

impl<'a> Compiler<'a> {
    fn entry(&mut self, document: Spanned<IssuerDocument>) {
        let span = document.span();
        let document = document.into_inner();
        // Whatever is wrong has been noted when it returns, and then no result is used.
        let _: Option<()> = match &document.cloud {
            None => self.written(document, span),
            Some(word) => {
                let cloud = self.clouds.iter().find(|cloud| cloud.name == word.get_ref());
                if cloud.is_none() {
                    let names: Vec<_> = self.clouds.iter().map(|cloud| format!("`{}`", cloud.name)).collect();
                    self.at(word, format_args!("`{}` is none of {}", word.get_ref(), names.join(", ")));
                }
                self.preset(cloud, document, span)
            }
        };
    }

    /// An entry that names a cloud; none if something in it is wrong.
    fn preset(
        &mut self,
        cloud: Option<&'static Cloud>,
        mut document: IssuerDocument,
        span: Range<usize>,
    ) -> Option<()> {
        let claims = document.claims.as_ref().map(|claims| ("claims", claims.span()));
        let place = |word: &Option<Word>| word.as_ref().map(Spanned::span);
        let unwanted = [
            place(&document.issuer).map(|span| ("issuer", span)),
            place(&document.discovery).map(|span| ("discovery", span)),
            place(&document.keys).map(|span| ("keys", span)),
            claims,
        ];
        let alone = unwanted.iter().all(Option::is_none);
        for (member, span) in unwanted.into_iter().flatten() {
            let message = format_args!("`{member}` is not for an issuer with `cloud`, which says it");
            self.problems.at(self.source, span, message);
        }
        let name = document.name.as_ref().or(document.cloud.as_ref());
        let name = name.and_then(|name| self.name(name));
        let tenants = self.tenants(&document.tenants);
        let ca = self.optional_ca(document.ca.as_ref());
        let keep = self.keep_of(document.keep_keys.take());
        let audiences = match &document.audiences {
            Some(written) => self.audiences(written),
            None => cloud.map(|cloud| cloud.audiences.iter().map(|audience| (*audience).into()).collect()),
        };
        let rules = self.rules(document, audiences, tenants.as_deref())?;
        let (cloud, name, ca) = (cloud.filter(|_| alone)?, name?, ca?);
        self.authorities.push((name.clone(), Authority::Host(cloud.login.host()), span.clone()));
        for tenant in tenants? {
            let documents = [cloud.login.v1_document(tenant), cloud.login.v2_document(tenant)];
            let [v1, v2] = documents.map(|url| {
                let url = discovery::parse_url(&url).ok()?;
                let issuer = ExpectedIssuer::OfCloud { login: cloud.login, tenant };
                let source = KeySource::Discovery(Discovery { url, issuer, ca: ca.clone() });
                Some(self.keys(name.clone(), source, KeySet::default(), keep))
            });
            let (login, rules) = (cloud.login, rules.clone());
            let route = CloudRoute { tenant, login, rules, v1: v1?, v2: v2? };
            if self.routes.add_cloud(route) == Err(Taken) {
                let message = format_args!("the tokens of tenant `{tenant}` belong to an entry above");
                self.problems.at(self.source, span.clone(), message);
            }
            self.presets.push((cloud.login, tenant, span.clone()));
        }
        Some(())
    }

    /// An entry that says itself what its issuer is; none if something in it is wrong.
    fn written(&mut self, mut document: IssuerDocument, span: Range<usize>) -> Option<()> {
        let name = self.required(document.name.take(), "name", &span);
        let name = name.and_then(|name| self.name(&name));
        let issuer = self.required(document.issuer.take(), "issuer", &span);
        let template = issuer.as_ref().and_then(|issuer| self.template(issuer));
        let tenants = self.tenants(&document.tenants);
        let audiences = self.required(document.audiences.take(), "audiences", &span);
        let audiences = audiences.and_then(|written| self.audiences(&written));
        let keep = self.keep_of(document.keep_keys.take());
        let (keys, discovery, ca) = (document.keys.take(), document.discovery.take(), document.ca.take());
        let rules = self.rules(document, audiences, tenants.as_deref());
        if let (Some(name), Some(authority)) = (&name, self.authority(keys.as_ref(), discovery.as_ref())) {
            self.authorities.push((name.clone(), authority, span.clone()));
        }
        let keys: Vec<_> = match (keys, discovery) {
            (Some(keys), None) => {
                if let Some(ca) = ca {
                    self.at(&ca, "`ca` is for `discovery`: keys in a file are not fetched");
                }
                let ring = self.key_file(name?, &keys, keep)?;
                tenants?.into_iter().map(|tenant| (tenant, ring.clone())).collect()
            }
            (None, Some(discovery)) => {
                let ca = self.optional_ca(ca.as_ref());
                let url = self.discovery(&discovery);
                self.discovered(&name?, &url?, &template.clone()?, tenants?, ca?.as_deref(), keep)?
            }
            (Some(_), Some(_)) | (None, None) => {
                self.problems.at(self.source, span, "an issuer has either `keys` or `discovery`");
                return None;
            }
        };
        let (template, rules, place) = (template?, rules?, issuer?.span());
        for tenants in keys.chunk_by(|a, b| template.of(a.0) == template.of(b.0)) {
            let Some((tenant, _)) = tenants.first() else { continue };
            let iss = template.of(*tenant);
            let (issuer, tenants) = (iss.as_str().into(), tenants.to_vec());
            if self.routes.add_issuer(IssuerRoute { issuer, rules: rules.clone(), tenants }) == Err(Taken) {
                let message = format_args!("the tokens of issuer `{iss}` belong to an entry above");
                self.problems.at(self.source, place.clone(), message);
            }
        }
        Some(())
    }

    /// A tenant of a cloud may not have an entry of its own for what may be the same issuer.
    fn no_second_judge(&mut self) {
        for (login, tenant, span) in std::mem::take(&mut self.presets) {
            let twice = self.routes.written().find(|iss| login.check_issuer(iss, tenant).is_ok());
            if let Some(iss) = twice {
                let message = format!(
                    "the tokens of tenant `{tenant}` may be those of issuer `{iss}`, which has an entry"
                );
                self.problems.at(self.source, span, message);
            }
        }
    }

    /// Applications, users and groups have one name space: whoever issues tokens may name any of them.
    fn warn_of_strangers(&mut self) {
        let authorities = std::mem::take(&mut self.authorities);
        let Some((first, trusted, _)) = authorities.first() else { return };
        for (name, _, span) in authorities.iter().filter(|(_, authority, _)| authority != trusted) {
            let message = format!(
                "`{name}` has other keys than `{first}`, and a token of either may name any application, user and group of this policy: list only issuers that you trust for all of them"
            );
            self.problems.warn_at(self.source, span.clone(), message);
        }
    }

    fn name(&mut self, written: &Word) -> Option<Arc<str>> {
        let name: Arc<str> = written.get_ref().as_str().into();
        if name.is_empty() {
            self.at(written, "an issuer must have a name");
            return None;
        }
        if !self.names.insert(name.clone()) {
            self.at(written, format_args!("issuer `{name}` has an entry already"));
        }
        Some(name)
    }

    fn authority(&self, keys: Option<&Word>, discovery: Option<&Word>) -> Option<Authority> {
        let host = |url: &Word| {
            let url = Template::new(url.get_ref()).of(TenantId::from_u128(0));
            discovery::parse_url(&url).ok()?.host_str().map(|host| Authority::Host(host.to_owned()))
        };
        discovery.and_then(host).or(keys.map(|_| Authority::Policy))
    }

    fn required<T>(&mut self, written: Option<T>, member: &str, entry: &Range<usize>) -> Option<T> {
        if written.is_none() {
            let message = format_args!("an issuer without a `cloud` needs `{member}`");
            self.problems.at(self.source, entry.clone(), message);
        }
        written
    }

    /// Text with the one placeholder or none.
    fn template(&mut self, written: &Word) -> Option<Template> {
        let text = written.get_ref();
        let plain = text.replace(PLACEHOLDER, "");
        let printable = plain.bytes().all(|byte| byte.is_ascii_graphic());
        if plain.is_empty() || plain.contains(['{', '}']) || !printable {
            let message =
                format_args!("`{text}` is not a URL, in which `{PLACEHOLDER}` stands for the tenant");
            self.at(written, message);
            return None;
        }
        Some(Template::new(text))
    }

    /// Text that makes an address to fetch from, whatever the tenant.
    fn discovery(&mut self, written: &Word) -> Option<Template> {
        let template = self.template(written)?;
        if let Err(error) = discovery::parse_url(&template.of(TenantId::from_u128(0))) {
            self.at(written, format_args!("`{}` can't be fetched: {error}", written.get_ref()));
            return None;
        }
        Some(template)
    }

    fn key_file(&mut self, issuer: Arc<str>, name: &Word, keep: Duration) -> Option<IssuerKeys> {
        let file = self.file(name)?;
        match KeySet::parse(file.text().as_bytes()) {
            Ok(keys) => {
                let source = KeySource::File { name: file.name().clone(), text: file.text().to_owned() };
                Some(self.keys(issuer, source, keys, keep))
            }
            Err(error) => {
                match error.line() {
                    Some(line) => self.problems.line(file, line, error),
                    None => self.problems.file(file.name(), error),
                }
                None
            }
        }
    }

    /// The certificates, or that there are none to trust; none if what is written is wrong.
    fn optional_ca(&mut self, name: Option<&Word>) -> Option<Option<String>> {
        let Some(name) = name else { return Some(None) };
        let file = self.file(name)?;
        match discovery::check_ca(file.text()) {
            Ok(()) => Some(Some(file.text().to_owned())),
            Err(error) => {
                self.problems.file(file.name(), error);
                None
            }
        }
    }

    /// The tenants with their keys: one document for each, if its address holds the tenant, or one for all.
    fn discovered(
        &mut self,
        name: &Arc<str>,
        url: &Template,
        issuer: &Template,
        tenants: Vec<TenantId>,
        ca: Option<&str>,
        keep: Duration,
    ) -> Option<Vec<(TenantId, IssuerKeys)>> {
        let mut found = Vec::new();
        for tenants in tenants.chunk_by(|a, b| url.of(*a) == url.of(*b)) {
            let (tenants, ca) = (tenants.to_vec(), ca.map(str::to_owned));
            let url = discovery::parse_url(&url.of(*tenants.first()?)).ok()?;
            let issuer = ExpectedIssuer::Written { template: issuer.clone(), tenants: tenants.clone() };
            let source = KeySource::Discovery(Discovery { url, issuer, ca });
            let keys = self.keys(name.clone(), source, KeySet::default(), keep);
            found.extend(tenants.into_iter().map(|tenant| (tenant, keys.clone())));
        }
        Some(found)
    }

    /// The ring of the same source, in this load or the one before, or a new one: with what was held from the same
    /// document, if only the tenants that it speaks for have changed, else with `keys`.
    fn keys(&mut self, name: Arc<str>, source: KeySource, keys: KeySet, keep: Duration) -> IssuerKeys {
        let mut before = self.keys.iter().chain(self.previous).map(|keys| &keys.ring);
        let ring = match before.clone().find(|ring| *ring.source() == source) {
            Some(ring) => ring.clone(),
            None => Arc::new(
                before
                    .find_map(|ring| ring.succeeded_by(&source))
                    .unwrap_or_else(|| KeyRing::new(source, keys, self.bell.clone())),
            ),
        };
        let keys = IssuerKeys { name, ring, keep };
        self.keys.push(keys.clone());
        keys
    }

    fn file(&mut self, name: &Word) -> Option<&'a SourceFile> {
        let file = self.files.read(name.get_ref(), self.problems);
        if file.is_none() {
            self.at(name, format_args!("the policy set has no file `{}`", name.get_ref()));
        }
        file
    }

    fn at<T>(&mut self, value: &Spanned<T>, message: impl fmt::Display) {
        self.problems.at(self.source, value.span(), message);
    }
}

#[cfg(test)]
mod tests;
