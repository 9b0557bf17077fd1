//! Grants: who may do what with which token.

pub(crate) mod grant;
pub(crate) mod grantee;
