//! From settings to the upstream.

use std::io;

use http::HeaderValue;

use crate::proxy::{Place, Timeouts, Tls, Upstream};
use crate::server::{StartError, tls};
use crate::settings::{Scheme, UpstreamSettings, UpstreamUrl, Versions};

/// The upstream of these settings, its names looked up.
///
/// # Errors
/// A name without an address, or authorities that can't be used.
pub(super) fn resolve(settings: &UpstreamSettings) -> Result<Upstream, StartError> {
    if let Some(path) = &settings.ca {
        // Pingora would end the process over a file that it cannot use.
        tls::authorities(path)?;
    }
    let places = settings.urls().map(|url| place(url, settings.versions)).collect::<Result<_, _>>()?;
    let timeouts = Timeouts {
        connect: settings.connect,
        read: settings.answer,
        write: settings.write,
        idle: settings.idle,
    };
    Upstream::resolve(places, timeouts, settings.ca.as_deref())
        .map_err(|unresolved| StartError::Upstream { host: unresolved.host, error: unresolved.error })
}

fn place(url: &UpstreamUrl, versions: Versions) -> Result<Place, StartError> {
    let unusable =
        |error| StartError::Upstream { host: url.host().to_owned(), error: io::Error::other(error) };
    Ok(Place {
        host: url.host().to_owned(),
        port: url.port(),
        authority: HeaderValue::try_from(url.authority()).map_err(unusable)?,
        tls: match (url.scheme(), versions) {
            (Scheme::Http, _) => Tls::Off,
            (Scheme::Https, Versions::Http1) => Tls::Verified,
            (Scheme::Https, Versions::Http2OrHttp1) => Tls::VerifiedHttp2,
        },
    })
}
