//! What the texts in requests may hold, for the OpenAPI document. The rules themselves are the ledger's.
//!
//! The ledger counts bytes and a schema counts characters. So a schema allows a text the full length in ASCII, or a
//! quarter of it in any characters. What lies between is accepted as well.

use crate::ledger::name::MAX_LABELS;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A token's name: segments of letters, digits and `._-+:`, joined by `/`
#[derive(ToSchema)]
#[schema(
    max_length = 255,
    pattern = r"^(?!\.{1,2}(/|$))[A-Za-z0-9._+:][A-Za-z0-9._+:-]*(/(?!\.{1,2}(/|$))[A-Za-z0-9._+:][A-Za-z0-9._+:-]*)*$"
)]
pub struct NameText(pub String);

/// A name, or the part of one before a `/`; empty for everything. A `/` at its end changes nothing
#[derive(ToSchema)]
#[schema(
    pattern = r"^(?=.{0,255}/?$)((?!\.{1,2}(/|$))[A-Za-z0-9._+:][A-Za-z0-9._+:-]*(/(?!\.{1,2}(/|$))[A-Za-z0-9._+:][A-Za-z0-9._+:-]*)*)?/?$"
)]
pub struct PrefixText(pub String);

/// A token's name, or a prefix with `/` at its end; `/` alone is everything
#[derive(ToSchema)]
#[schema(
    pattern = r"^(?=.{0,255}/?$)(/|(?!\.{1,2}(/|$))[A-Za-z0-9._+:][A-Za-z0-9._+:-]*(/(?!\.{1,2}(/|$))[A-Za-z0-9._+:][A-Za-z0-9._+:-]*)*/?)$"
)]
pub struct Grantable(pub String);

/// `unit:NAME`, `unit:USER/NAME`, `user:NAME`, `group:NAME`, `exe:PATH` or `exe:sha256:DIGEST`; several, joined by `+`, all of
/// which have to hold
#[derive(ToSchema)]
#[schema(
    pattern = r"^(?=([ -~]{0,1024}|.{0,256})$)(unit:([A-Za-z0-9_.][A-Za-z0-9_.-]{0,63}/)?([A-Za-z0-9:_.\\@-]{1,247}\.service|[A-Za-z0-9:_.\\@-]{1,248}\.socket|[A-Za-z0-9:_.\\@-]{1,249}\.(scope|mount)|[A-Za-z0-9:_.\\@-]{1,250}\.swap)|(user|group):[A-Za-z0-9_.][A-Za-z0-9_.-]{0,63}|exe:sha256:[0-9A-Fa-f]{64}|exe:(/(?!\.{1,2}(/|$|\+(unit|user|group|exe):))((?!\+(unit|user|group|exe):)[^/\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069])+)+)(\+(unit:([A-Za-z0-9_.][A-Za-z0-9_.-]{0,63}/)?([A-Za-z0-9:_.\\@-]{1,247}\.service|[A-Za-z0-9:_.\\@-]{1,248}\.socket|[A-Za-z0-9:_.\\@-]{1,249}\.(scope|mount)|[A-Za-z0-9:_.\\@-]{1,250}\.swap)|(user|group):[A-Za-z0-9_.][A-Za-z0-9_.-]{0,63}|exe:sha256:[0-9A-Fa-f]{64}|exe:(/(?!\.{1,2}(/|$|\+(unit|user|group|exe):))((?!\+(unit|user|group|exe):)[^/\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069])+)+))*$"
)]
pub struct GranteeText(pub String);

/// The name of a device, or the id by which a unit asks for a credential
#[derive(ToSchema)]
#[schema(pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._+:][A-Za-z0-9._+:-]{0,63}$")]
pub struct ShortName(pub String);

/// A unit of the system
#[derive(ToSchema)]
#[schema(
    pattern = r"^unit:([A-Za-z0-9:_.\\@-]{1,247}\.service|[A-Za-z0-9:_.\\@-]{1,248}\.socket|[A-Za-z0-9:_.\\@-]{1,249}\.(scope|mount)|[A-Za-z0-9:_.\\@-]{1,250}\.swap)$"
)]
pub struct UnitText(pub String);

/// The id of a grant
#[derive(ToSchema)]
#[schema(pattern = r"^[0-9A-Fa-f]{32}$")]
pub struct GrantIdText(pub String);

/// KEY=VALUE
#[derive(ToSchema)]
#[schema(
    pattern = r"^(?!\.{1,2}=)[A-Za-z0-9._+:][A-Za-z0-9._+:-]{0,63}=([ -~]{0,256}|[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]{0,64})$"
)]
pub struct Label(pub String);

/// Labels, none of them twice.
pub struct Labels;

impl PartialSchema for Labels {
    fn schema() -> RefOr<Schema> {
        let labels =
            ArrayBuilder::new().items(Label::schema()).max_items(Some(MAX_LABELS)).unique_items(true);
        labels.build().into()
    }
}

impl ToSchema for Labels {}

/// A server-sent event of those who watch
#[derive(ToSchema)]
pub struct WatchEvent {
    /// `token`; `all` after those that there are at first
    pub event: String,
    /// JSON: a WatchedToken; nothing in it for `all`
    pub data: String,
}

/// What is watched: 1 to 64 tokens and prefixes.
pub struct Watchables;

impl PartialSchema for Watchables {
    fn schema() -> RefOr<Schema> {
        let all = ArrayBuilder::new().items(Grantable::schema()).min_items(Some(1)).max_items(Some(64));
        all.build().into()
    }
}

impl ToSchema for Watchables {}

/// At most 1024 bytes in UTF-8, without control characters
#[derive(ToSchema)]
#[schema(
    pattern = r"^([ -~]{0,1024}|[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]{0,256})$"
)]
pub struct Words(pub String);

/// RFC 3339, in the years 1970 to 8999
#[derive(ToSchema)]
#[schema(format = DateTime, pattern = r"^(19[7-9]|[2-8][0-9]{2})[0-9]-")]
pub struct Time(pub String);

/// A token's bytes: 1 byte to 1 MiB
#[derive(ToSchema)]
#[schema(format = Binary, min_length = 1, max_length = 1048576)]
pub struct Octets(pub String);
