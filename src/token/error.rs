//! Why a token is refused, in words for the caller and for the audit. No part of a token is ever repeated.

use std::time::Duration;

use crate::outcome::ReasonCode;

/// A token that proves nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is malformed, or not signed by its issuer, or not of a kind that we take.
    #[error("the token is refused: {0}")]
    Bad(#[from] Flaw),
    /// `exp` has passed, by more than the clock skew.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come, by more than the clock skew.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` names none of the audiences of its issuer's entry.
    #[error("the token is for another audience")]
    WrongAudience,
    /// `iss` and `tid` together name no issuer of the policy.
    #[error("the token is from an issuer or a tenant that is not trusted here")]
    WrongIssuer,
    /// No key of this issuer is held.
    #[error("the keys of the token's issuer can't be had at present")]
    KeysUnavailable {
        /// How long until they are fetched again; at least a second.
        retry_after: Duration,
    },
}

/// What is wrong with a bad token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Longer than 8 KiB.
    #[error("it is longer than {} bytes", super::jws::MAX_TOKEN_BYTES)]
    TooLong,
    /// Not `header.claims.signature`: a JWE, the JSON serialization, or no token at all.
    #[error("it is not three parts with dots between them")]
    NotThreeParts,
    /// Padding, white space, letters of the other alphabet, or bits that no byte uses.
    #[error("its {0} is not base64url in its canonical form")]
    Encoding(&'static str),
    /// Not a JSON object, not UTF-8, or a member given twice at any depth.
    #[error("its {0} is not a JSON object with each member once")]
    Json(&'static str),
    /// `alg` is none of the algorithms that are accepted, to the letter, or none of those of its issuer's entry.
    #[error("its header parameter `alg` is no signature algorithm that is accepted")]
    Algorithm,
    /// `alg` is not the algorithm that the key is for.
    #[error("its header parameter `alg` is not the algorithm of its key")]
    AlgorithmOfAnotherKey,
    /// `kid` is missing, empty or no string.
    #[error("its header parameter `kid` is not a string")]
    KeyId,
    /// `typ` is there and neither `JWT` nor `at+jwt`.
    #[error("its header parameter `typ` is neither `JWT` nor `at+jwt`")]
    Type,
    /// `typ` is not the one that its issuer's entry asks for.
    #[error("its header parameter `typ` is not `{0}`")]
    OtherType(&'static str),
    /// A header parameter that changes what the token means.
    #[error("its header parameter `{0}` is not accepted")]
    Parameter(&'static str),
    /// `kid` names no key that the issuer published.
    #[error("it is signed with a key that its issuer has not published")]
    UnknownKey,
    /// The key was published for another issuer than `iss`.
    #[error("it is signed with the key of another issuer")]
    KeyOfAnother,
    /// The signature does not verify.
    #[error("its signature is wrong")]
    Signature,
    /// A claim is missing or not of its type.
    #[error("its claim `{claim}` {problem}")]
    Claim {
        /// The claim's name in Entra's tokens, also where the issuer calls it otherwise.
        claim: &'static str,
        /// The rest of the sentence.
        problem: &'static str,
    },
    /// `appid` and `azp` name two applications.
    #[error("its claims `appid` and `azp` disagree")]
    TwoApplications,
    /// `idtyp` says the one kind, and `scp` the other.
    #[error("its claims `idtyp` and `scp` disagree whether it is an application's or a user's")]
    MixedKinds,
    /// Neither `scp` nor `roles`.
    #[error("it has neither the claim `scp` of a user's token nor the claim `roles` of an application's")]
    NoKind,
}

// === impl TokenError ===

impl TokenError {
    /// The reason by which the answer, the metrics and the audit know it.
    pub fn reason(self) -> ReasonCode {
        match self {
            Self::Bad(_) => ReasonCode::BadToken,
            Self::Expired => ReasonCode::Expired,
            Self::NotYetValid => ReasonCode::NotYetValid,
            Self::WrongAudience => ReasonCode::WrongAudience,
            Self::WrongIssuer => ReasonCode::WrongIssuer,
            Self::KeysUnavailable { .. } => ReasonCode::KeysUnavailable,
        }
    }

    /// Whether the caller failed to prove who it is: every answer 401, but not that we lack the keys to tell.
    pub fn is_failed_login(self) -> bool {
        match self {
            Self::Bad(_) | Self::Expired | Self::NotYetValid | Self::WrongAudience | Self::WrongIssuer => {
                true
            }
            Self::KeysUnavailable { .. } => false,
        }
    }

    /// Whether the same token will be refused in the same words, as long as its issuer's keys and rules stay: what
    /// may be kept. A key that nobody knows yet may be published, and a day that has not come will come.
    pub(super) fn is_lasting(self) -> bool {
        match self {
            Self::Bad(flaw) => match flaw {
                // Told by its length alone, and longer than anything that is kept.
                Flaw::TooLong => false,
                Flaw::UnknownKey | Flaw::KeyOfAnother => false,
                Flaw::NotThreeParts
                | Flaw::Encoding(_)
                | Flaw::Json(_)
                | Flaw::Algorithm
                | Flaw::AlgorithmOfAnotherKey
                | Flaw::KeyId
                | Flaw::Type
                | Flaw::OtherType(_)
                | Flaw::Parameter(_)
                | Flaw::Signature
                | Flaw::Claim { .. }
                | Flaw::TwoApplications
                | Flaw::MixedKinds
                | Flaw::NoKind => true,
            },
            Self::Expired | Self::WrongAudience | Self::WrongIssuer => true,
            Self::NotYetValid | Self::KeysUnavailable { .. } => false,
        }
    }
}
