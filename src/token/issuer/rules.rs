//! What an entry asks of a token, from what is written.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::Compiler;
use super::document::{ClaimsDocument, IssuerDocument, Word, Words};
use crate::id::TenantId;
use crate::source::time_within;
use crate::token::algorithm::Algorithm;
use crate::token::claims::names::{Claim, ClaimNames, ENTRA, Form, Permissions};
use crate::token::jws::TokenType;
use crate::token::route::Rules;

/// Entra and this machine keep their clocks within seconds of each other; Envoy's default is the same.
const DEFAULT_SKEW: Duration = Duration::from_secs(60);

/// What `clock_skew` may be: a token must not outlive its hour by much.
const SKEW: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

/// A day without the issuer is an outage that somebody will have noticed; a key withdrawn in that time is the price.
pub(super) const DEFAULT_KEEP: Duration = Duration::from_secs(24 * 3_600);

/// What `keep_keys` may be: less would make every hiccup of the issuer one of ours, more would trust keys that nobody has
/// vouched for in a week.
const KEEP: RangeInclusive<Duration> = Duration::from_secs(3_600)..=Duration::from_secs(168 * 3_600);

/// The claims whose names are the same everywhere (RFC 7519, section 4.1).
const REGISTERED: [&str; 5] = ["iss", "aud", "exp", "nbf", "iat"];

// === impl Compiler ===

impl Compiler<'_> {
    pub(super) fn skew(&mut self, written: Option<Word>) -> Duration {
        let Some(written) = written else { return DEFAULT_SKEW };
        let skew = time_within(written.get_ref(), &SKEW);
        if skew.is_none() {
            self.at(&written, format_args!("`{}` is not a time from `0s` to `300s`", written.get_ref()));
        }
        skew.unwrap_or(DEFAULT_SKEW)
    }

    pub(super) fn keep(&mut self, written: Option<Word>) -> Duration {
        let Some(written) = written else { return DEFAULT_KEEP };
        let keep = time_within(written.get_ref(), &KEEP);
        if keep.is_none() {
            self.at(&written, format_args!("`{}` is not a time from `1h` to `168h`", written.get_ref()));
        }
        keep.unwrap_or(DEFAULT_KEEP)
    }

    /// The entry's own `keep_keys`, or that of the file.
    pub(super) fn keep_of(&mut self, written: Option<Word>) -> Duration {
        if written.is_some() { self.keep(written) } else { self.keep }
    }

    /// Everything that the entry asks of a token; none if something of it is wrong.
    pub(super) fn rules(
        &mut self,
        document: IssuerDocument,
        audiences: Option<Vec<Box<str>>>,
        tenants: Option<&[TenantId]>,
    ) -> Option<Arc<Rules>> {
        let algorithms = self.algorithms(document.algorithms.as_ref());
        let typ = self.typ(document.typ.as_ref());
        let claims = match document.claims {
            None => Some(ENTRA.clone()),
            Some(claims) => self.claims(claims, tenants),
        };
        Some(Arc::new(Rules { audiences: audiences?, algorithms: algorithms?, typ: typ?, claims: claims? }))
    }

    pub(super) fn tenants(&mut self, written: &Words) -> Option<Vec<TenantId>> {
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

    pub(super) fn audiences(&mut self, written: &Words) -> Option<Vec<Box<str>>> {
        let mut audiences = Vec::new();
        for word in written.get_ref() {
            if word.get_ref().is_empty() {
                self.at(word, "an audience is not empty");
            } else {
                audiences.push(word.get_ref().as_str().into());
            }
        }
        self.all_of(written, audiences, "an issuer names at least one audience")
    }

    fn algorithms(&mut self, written: Option<&Words>) -> Option<Vec<Algorithm>> {
        let Some(written) = written else { return Some(Algorithm::ALL.to_vec()) };
        let mut algorithms = Vec::new();
        for word in written.get_ref() {
            match Algorithm::named(word.get_ref()) {
                Some(algorithm) => algorithms.push(algorithm),
                None => {
                    let names = Algorithm::ALL.map(|algorithm| format!("`{algorithm}`")).join(", ");
                    self.at(word, format_args!("`{}` is none of {names}", word.get_ref()));
                }
            }
        }
        self.all_of(written, algorithms, "an issuer signs by at least one algorithm")
    }

    /// The type, or that either will do; none if what is written is wrong.
    fn typ(&mut self, written: Option<&Word>) -> Option<Option<TokenType>> {
        let Some(written) = written else { return Some(None) };
        let typ = [TokenType::Jwt, TokenType::AccessToken]
            .into_iter()
            .find(|typ| typ.as_str() == written.get_ref());
        if typ.is_none() {
            self.at(written, format_args!("`{}` is neither `JWT` nor `at+jwt`", written.get_ref()));
        }
        typ.map(Some)
    }

    /// What the issuer calls the claims. What is not named is not read, so what must be there must be named.
    fn claims(
        &mut self,
        written: Spanned<ClaimsDocument>,
        tenants: Option<&[TenantId]>,
    ) -> Option<ClaimNames> {
        let span = written.span();
        let ClaimsDocument { appid, tid, oid, idtyp, roles, scp, groups, uti } = written.into_inner();
        let named = [Some(&appid), tid.as_ref(), oid.as_ref(), idtyp.as_ref(), groups.as_ref(), uti.as_ref()];
        let named = named.into_iter().chain([roles.as_ref(), scp.as_ref()]).flatten();
        let mut seen: Vec<&str> = Vec::new();
        let mut wrong = Vec::new();
        let shared = roles.as_ref().zip(scp.as_ref()).is_some_and(|(a, b)| a.get_ref() == b.get_ref());
        for word in named {
            let name = word.get_ref().as_str();
            let second_of_shared = shared && scp.as_ref().is_some_and(|scp| scp.span() == word.span());
            if name.is_empty() {
                wrong.push((word.span(), "a claim has a name".to_owned()));
            } else if REGISTERED.contains(&name) {
                wrong.push((word.span(), format!("`{name}` has a meaning of its own in every token")));
            } else if seen.contains(&name) && !second_of_shared {
                wrong.push((word.span(), format!("`{name}` is one claim and can't be two")));
            }
            seen.push(name);
        }
        if roles.is_none() && scp.is_none() {
            wrong.push((
                span.clone(),
                "`claims` names neither `roles` nor `scp`: no token would grant anything".into(),
            ));
        }
        if scp.is_some() && oid.is_none() {
            wrong.push((span.clone(), "a token with `scp` is a user's: `claims` must name its `oid`".into()));
        }
        if shared && idtyp.is_none() {
            let message =
                "`roles` and `scp` are one claim: `claims` must name the `idtyp` that tells tokens apart";
            wrong.push((span.clone(), message.into()));
        }
        if tid.is_none() && tenants.is_some_and(|tenants| tenants.len() > 1) {
            let message =
                "tokens without a `tid` belong to one tenant: `claims` must name it, or `tenants` only one";
            wrong.push((span, message.into()));
        }
        if !wrong.is_empty() {
            wrong.into_iter().for_each(|(span, message)| self.problems.at(self.source, span, message));
            return None;
        }
        let called = |entra, word: Option<Word>| Claim::called(entra, word.map(Spanned::into_inner));
        let permissions = |entra, word| Permissions { claim: called(entra, word), form: Form::Any };
        Some(ClaimNames {
            ver: called("ver", None),
            tid: called("tid", tid),
            appid: called("appid", Some(appid)),
            azp: called("azp", None),
            oid: called("oid", oid),
            idtyp: called("idtyp", idtyp),
            roles: permissions("roles", roles),
            scp: permissions("scp", scp),
            groups: called("groups", groups),
            uti: called("uti", uti),
        })
    }

    /// The list, if every word of it was right and there is one.
    fn all_of<T>(&mut self, written: &Words, read: Vec<T>, message: &str) -> Option<Vec<T>> {
        if written.get_ref().is_empty() {
            self.at(written, message);
            return None;
        }
        (read.len() == written.get_ref().len()).then_some(read)
    }
}
