//! One JSON web key (RFC 7517; RFC 7518, section 6; RFC 8037, section 2), and what makes it one that verifies.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::{PublicKey, VerifyingKey};
use crate::token::algorithm::Algorithm;
use crate::token::template::Template;

/// Why a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::token) enum UnusableKey {
    #[error("it is not a key of JSON web key's form")]
    Malformed,
    #[error("its `kty` is none of RSA, EC and OKP")]
    OtherType,
    #[error("its `crv` is none of P-256, P-384 and Ed25519, or not of its `kty`")]
    OtherCurve,
    #[error("it has no `kid`")]
    NoKeyId,
    #[error("its `use` is not `sig`")]
    NotForSignatures,
    #[error("its `key_ops` lack `verify`")]
    NotForVerification,
    #[error("its `alg` is no signature algorithm of its `kty` and `crv`")]
    OtherAlgorithm,
    #[error("it holds the private part too, so that anybody may have it")]
    Private,
    #[error("its modulus has {0} bits, where 2048 to 8192 are taken")]
    Size(usize),
    #[error("its exponent is not an odd number from 3 to 4294967295")]
    Exponent,
    #[error("its point is not on its curve, or of small order")]
    Point,
}

/// The members that we read. Those of certificates (`x5c`, `x5t`, `x5u`) are not among them: the set was fetched from
/// the issuer, and a certificate would only say so once more.
#[derive(Deserialize)]
pub(super) struct KeyDocument {
    kty: String,
    pub(super) kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
    issuer: Option<String>,
}

/// What a key is made of: its type with its curve.
#[derive(Clone, Copy)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The y-coordinates of the points of Ed25519 whose order divides 8, in the three forms of 0 and 1 that fit 255 bits,
/// little-endian. Under such a key anybody can sign: with S = 0, the equation of the signature has as many solutions as
/// the order is small. (*Taming the many EdDSAs*, Chalkias, Garillot, Nikolaenko, table 1.)
pub(super) const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    with_first([0; 32], 1),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    with_first(PRIME_25519, 0xec),
    PRIME_25519,
    with_first(PRIME_25519, 0xee),
];

/// 2^255 - 19, little-endian.
const PRIME_25519: [u8; 32] = [
    0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
];

const fn with_first(mut bytes: [u8; 32], first: u8) -> [u8; 32] {
    let [byte, ..] = &mut bytes;
    *byte = first;
    bytes
}

// === impl VerifyingKey ===

impl TryFrom<KeyDocument> for VerifyingKey {
    type Error = UnusableKey;

    fn try_from(document: KeyDocument) -> Result<Self, UnusableKey> {
        let kind = Kind::of(&document)?;
        if document.kid.as_deref().is_none_or(str::is_empty) {
            return Err(UnusableKey::NoKeyId);
        }
        if document.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err(UnusableKey::NotForSignatures);
        }
        if document.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|word| word == "verify"))
        {
            return Err(UnusableKey::NotForVerification);
        }
        if document.d.is_some() {
            return Err(UnusableKey::Private);
        }
        let algorithm = match document.alg.as_deref() {
            None => kind.default_algorithm(),
            Some(name) => Algorithm::named(name)
                .filter(|algorithm| kind.signs_by(*algorithm))
                .ok_or(UnusableKey::OtherAlgorithm)?,
        };
        let key = match kind {
            Kind::Rsa => rsa(document.n, document.e, algorithm)?,
            Kind::P256 => point::<32>(document.x, document.y, &ECDSA_P256_SHA256_FIXED)?,
            Kind::P384 => point::<48>(document.x, document.y, &ECDSA_P384_SHA384_FIXED)?,
            Kind::Ed25519 => edwards(document.x)?,
        };
        Ok(Self { key, algorithm, issuer: document.issuer.as_deref().map(Template::new) })
    }
}

// === impl Kind ===

impl Kind {
    fn of(document: &KeyDocument) -> Result<Self, UnusableKey> {
        match (document.kty.as_str(), document.crv.as_deref()) {
            ("RSA", _) => Ok(Self::Rsa),
            ("EC", Some("P-256")) => Ok(Self::P256),
            ("EC", Some("P-384")) => Ok(Self::P384),
            ("OKP", Some("Ed25519")) => Ok(Self::Ed25519),
            ("EC" | "OKP", _) => Err(UnusableKey::OtherCurve),
            _ => Err(UnusableKey::OtherType),
        }
    }

    /// The algorithm of a key that names none. A curve has only one. An RSA key could sign by six, and one that may
    /// sign by two is two keys (RFC 8725, section 3.1): it is RS256, which Entra means when it leaves `alg` out, and
    /// which every issuer of RFC 9068 must have (section 2.1). Whoever means another must say so.
    const fn default_algorithm(self) -> Algorithm {
        match self {
            Self::Rsa => Algorithm::Rs256,
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    const fn signs_by(self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        matches!(
            (self, algorithm),
            (Self::Rsa, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
                | (Self::P256, Es256)
                | (Self::P384, Es384)
                | (Self::Ed25519, EdDsa)
        )
    }
}

fn rsa(n: Option<String>, e: Option<String>, algorithm: Algorithm) -> Result<PublicKey, UnusableKey> {
    let (n, e) = (number(n)?, number(e)?);
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2_048..=8_192).contains(&bits) {
        return Err(UnusableKey::Size(bits));
    }
    // With an exponent of 1 every message is its own signature; aws-lc takes no more than 33 bits.
    if e.len() > 4 || e == [1] || e.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(UnusableKey::Exponent);
    }
    let scheme = algorithm.rsa().ok_or(UnusableKey::OtherAlgorithm)?;
    let key = RsaPublicKeyComponents { n: &n, e: &e }.to_parsed_public_key(scheme);
    key.map(PublicKey::Rsa).map_err(|_| UnusableKey::Malformed)
}

/// A point in its uncompressed form (SEC 1, section 2.3.3), each coordinate of exactly `N` bytes.
fn point<const N: usize>(
    x: Option<String>,
    y: Option<String>,
    curve: &'static dyn VerificationAlgorithm,
) -> Result<PublicKey, UnusableKey> {
    let point = [&[4], &coordinate::<N>(x)?[..], &coordinate::<N>(y)?[..]].concat();
    // What the library would find wrong with each token is found once.
    ParsedPublicKey::new(curve, &point).map_err(|_| UnusableKey::Point)?;
    Ok(PublicKey::Point(DecodingKey::from_ec_der(&point)))
}

fn edwards(x: Option<String>) -> Result<PublicKey, UnusableKey> {
    let point = coordinate::<32>(x)?;
    let mut y = point;
    // The highest bit is the sign of the other coordinate.
    let [.., last] = &mut y;
    *last &= 0x7f;
    if SMALL_ORDER.contains(&y) {
        return Err(UnusableKey::Point);
    }
    Ok(PublicKey::Point(DecodingKey::from_ed_der(&point)))
}

/// A positive number in `Base64urlUInt` (RFC 7518, section 2): big-endian, without leading zeros.
fn number(text: Option<String>) -> Result<Vec<u8>, UnusableKey> {
    let bytes = decode(text)?;
    if bytes.first().is_none_or(|byte| *byte == 0) { Err(UnusableKey::Malformed) } else { Ok(bytes) }
}

/// A coordinate, whose leading zeros belong to it (RFC 7518, section 6.2.1.2).
fn coordinate<const N: usize>(text: Option<String>) -> Result<[u8; N], UnusableKey> {
    decode(text)?.try_into().map_err(|_| UnusableKey::Malformed)
}

fn decode(text: Option<String>) -> Result<Vec<u8>, UnusableKey> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(UnusableKey::Malformed)
}
