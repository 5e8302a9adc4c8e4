//! `issuers.toml`: from what is written to what [`Verifier`] knows.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::discovery::{self, Discovery};
use super::keys::KeySet;
use super::ring::{KeyRing, KeySource};
use super::template::{PLACEHOLDER, Template};
use super::verifier::{Route, Verifier};
use crate::id::TenantId;
use crate::source::{PolicyFiles, Problems, SourceFile};

/// One `[[issuer]]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerDocument {
    name: Spanned<String>,
    issuer: Spanned<String>,
    tenants: Spanned<Vec<Spanned<String>>>,
    audiences: Spanned<Vec<Spanned<String>>>,
    keys: Option<Spanned<String>>,
    discovery: Option<Spanned<String>>,
    ca: Option<Spanned<String>>,
}

/// One `[[issuer]]`, valid, with the keys of each of its tenants.
struct Issuer {
    template: Template,
    audiences: Arc<[Box<str>]>,
    tenants: Vec<(TenantId, Arc<KeyRing>)>,
}

/// What compiling an entry needs to know, and where its results and mistakes go.
struct Compiler<'a> {
    files: &'a PolicyFiles,
    source: &'a SourceFile,
    problems: &'a mut Problems,
    /// The rings of the load before.
    previous: &'a [Arc<KeyRing>],
    rings: Vec<Arc<KeyRing>>,
    routes: HashMap<Box<str>, Route>,
    names: HashSet<String>,
}

const FILE: &str = "issuers.toml";

/// Entra and this machine keep their clocks within seconds of each other; Envoy's default is the same.
const DEFAULT_SKEW: Duration = Duration::from_secs(60);

/// The most that `clock_skew` may be, in seconds: a token must not outlive its hour by much.
const MAX_SKEW_SECONDS: u64 = 300;

/// Compiles the file. See [`Verifier::compile`].
pub(super) fn compile(files: &PolicyFiles, previous: Option<&Verifier>, problems: &mut Problems) -> Verifier {
    let Some(source) = files.require(FILE, problems) else { return Verifier::default() };
    let Some(mut file) = source.toml(problems) else { return Verifier::default() };
    let skew = file.value::<String>("clock_skew", problems);
    let documents = file.entries::<IssuerDocument>("issuer", problems);
    file.finish(problems);

    let mut compiler = Compiler {
        files,
        source,
        problems,
        previous: previous.map_or(&[], Verifier::rings),
        rings: Vec::new(),
        routes: HashMap::new(),
        names: HashSet::new(),
    };
    let skew = compiler.skew(skew);
    for document in documents {
        compiler.entry(document);
    }
    Verifier::new(skew, compiler.routes, compiler.rings).inheriting(previous)
}

// === impl Compiler ===

impl<'a> Compiler<'a> {
    fn skew(&mut self, written: Option<Spanned<String>>) -> Duration {
        let Some(written) = written else { return DEFAULT_SKEW };
        let digits = written.get_ref().strip_suffix('s');
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let seconds = digits.and_then(|digits| digits.parse().ok());
        match seconds {
            Some(seconds) if seconds <= MAX_SKEW_SECONDS => Duration::from_secs(seconds),
            Some(_) | None => {
                self.at(&written, format_args!("`{}` is not a time from `0s` to `300s`", written.get_ref()));
                DEFAULT_SKEW
            }
        }
    }

    fn entry(&mut self, document: Spanned<IssuerDocument>) {
        let span = document.span();
        let document = document.into_inner();
        self.name(&document.name);
        let place = document.issuer.span();
        let Some(issuer) = self.issuer(document, span) else { return };
        for (tenant, ring) in issuer.tenants {
            let iss = issuer.template.of(tenant);
            let route = Route { audiences: issuer.audiences.clone(), tenants: Vec::new() };
            let route = self.routes.entry(iss.as_str().into()).or_insert(route);
            // One list of audiences, one entry: no token may have two entries to be judged by.
            if Arc::ptr_eq(&route.audiences, &issuer.audiences) {
                route.tenants.push((tenant, ring));
            } else {
                let message = format_args!("the tokens of issuer `{iss}` belong to an entry above");
                self.problems.at(self.source, place.clone(), message);
            }
        }
    }

    fn name(&mut self, name: &Spanned<String>) {
        if name.get_ref().is_empty() {
            self.at(name, "an issuer must have a name");
        } else if !self.names.insert(name.get_ref().clone()) {
            self.at(name, format_args!("issuer `{}` has an entry already", name.get_ref()));
        }
    }

    /// One entry; none if something in it is wrong.
    fn issuer(&mut self, document: IssuerDocument, span: Range<usize>) -> Option<Issuer> {
        let template = self.template(&document.issuer);
        let tenants = self.tenants(&document.tenants);
        let audiences = self.audiences(&document.audiences);
        let name: Arc<str> = document.name.get_ref().as_str().into();
        let tenants = match (document.keys, document.discovery) {
            (Some(keys), None) => {
                if let Some(ca) = document.ca {
                    self.at(&ca, "`ca` is for `discovery`: keys in a file are not fetched");
                }
                let ring = self.key_file(name, &keys)?;
                tenants?.into_iter().map(|tenant| (tenant, ring.clone())).collect()
            }
            (None, Some(discovery)) => {
                let ca = document.ca.map(|ca| self.ca(&ca).ok_or(())).transpose();
                let url = self.discovery(&discovery);
                let (issuer, ca) = (template.clone()?, ca.ok()?);
                self.discovered(&name, &url?, &issuer, tenants?, ca.as_deref())?
            }
            (Some(_), Some(_)) | (None, None) => {
                self.problems.at(self.source, span, "an issuer has either `keys` or `discovery`");
                return None;
            }
        };
        Some(Issuer { template: template?, audiences: audiences?, tenants })
    }

    /// Text with the one placeholder or none.
    fn template(&mut self, written: &Spanned<String>) -> Option<Template> {
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
    fn discovery(&mut self, written: &Spanned<String>) -> Option<Template> {
        let template = self.template(written)?;
        if let Err(error) = discovery::parse_url(&template.of(TenantId::from_u128(0))) {
            self.at(written, format_args!("`{}` can't be fetched: {error}", written.get_ref()));
            return None;
        }
        Some(template)
    }

    fn tenants(&mut self, written: &Spanned<Vec<Spanned<String>>>) -> Option<Vec<TenantId>> {
        let mut tenants = Vec::new();
        for word in written.get_ref() {
            match word.get_ref().parse() {
                Ok(tenant) if tenants.contains(&tenant) => {
                    self.at(word, format_args!("tenant `{tenant}` is named twice"));
                }
                Ok(tenant) => tenants.push(tenant),
                Err(error) => self.at(word, error),
            }
        }
        self.all_of(written, tenants, "an issuer names at least one tenant: nobody speaks for all of them")
    }

    fn audiences(&mut self, written: &Spanned<Vec<Spanned<String>>>) -> Option<Arc<[Box<str>]>> {
        let mut audiences = Vec::new();
        for word in written.get_ref() {
            if word.get_ref().is_empty() {
                self.at(word, "an audience is not empty");
            } else {
                audiences.push(word.get_ref().as_str().into());
            }
        }
        self.all_of(written, audiences, "an issuer names at least one audience").map(Into::into)
    }

    /// The list, if every word of it was right and there is one.
    fn all_of<T>(
        &mut self,
        written: &Spanned<Vec<Spanned<String>>>,
        read: Vec<T>,
        message: &str,
    ) -> Option<Vec<T>> {
        if written.get_ref().is_empty() {
            self.at(written, message);
            return None;
        }
        (read.len() == written.get_ref().len()).then_some(read)
    }

    fn key_file(&mut self, issuer: Arc<str>, name: &Spanned<String>) -> Option<Arc<KeyRing>> {
        let file = self.file(name)?;
        match KeySet::parse(file.text().as_bytes()) {
            Ok(keys) => {
                let source = KeySource::File { name: file.name().clone(), text: file.text().to_owned() };
                Some(self.ring(issuer, source, keys))
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

    fn ca(&mut self, name: &Spanned<String>) -> Option<String> {
        let file = self.file(name)?;
        match discovery::check_ca(file.text()) {
            Ok(()) => Some(file.text().to_owned()),
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
    ) -> Option<Vec<(TenantId, Arc<KeyRing>)>> {
        let mut rings = Vec::new();
        for tenants in tenants.chunk_by(|a, b| url.of(*a) == url.of(*b)) {
            let (tenants, ca) = (tenants.to_vec(), ca.map(str::to_owned));
            let url = discovery::parse_url(&url.of(*tenants.first()?)).ok()?;
            let source =
                KeySource::Discovery(Discovery { url, issuer: issuer.clone(), tenants: tenants.clone(), ca });
            let ring = self.ring(name.clone(), source, KeySet::default());
            rings.extend(tenants.into_iter().map(|tenant| (tenant, ring.clone())));
        }
        Some(rings)
    }

    /// The ring that held the same issuer's keys from the same source before, or a new one with `keys`.
    fn ring(&mut self, name: Arc<str>, source: KeySource, keys: KeySet) -> Arc<KeyRing> {
        let kept = self.previous.iter().find(|ring| *ring.name() == name && *ring.source() == source);
        let ring = kept.cloned().unwrap_or_else(|| Arc::new(KeyRing::new(name, source, keys)));
        self.rings.push(ring.clone());
        ring
    }

    fn file(&mut self, name: &Spanned<String>) -> Option<&'a SourceFile> {
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
