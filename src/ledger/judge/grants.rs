//! The rules for grants and rotation policies, both on a token or a prefix.

use super::tokens::pairs_in_form;
use super::{DeviceState, LedgerView, Verdict, living, refuse, rule, text};
use crate::ledger::body::{Grant, PolicyChange, RotationPolicy, Target, Ungrant};
use crate::ledger::error::Ineffective;
use crate::ledger::name::{check_prefix, check_short};

/// Whether `may` lets the author reach the token's name, or everything under the prefix.
fn reaches(
    target: &Target,
    role: &'static str,
    view: &impl LedgerView,
    may: impl Fn(&str) -> bool,
) -> Verdict {
    let name = match target {
        Target::Prefix(prefix) => {
            check!(check_prefix(prefix));
            prefix.clone()
        }
        Target::Token(id) => match living(id, view)? {
            Ok(token) => token.name,
            Err(why) => return refuse(why),
        },
    };
    Ok(if may(&name) { Ok(()) } else { Err(Ineffective::Role(role)) })
}

pub(super) fn grant(b: &Grant, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(reaches(&b.target, "grant", view, |name| author.grants(name))?);
    check!(text(&b.to));
    check!(b.ops.iter().try_for_each(|op| check_short(op)));
    if b.to.is_empty() || b.ops.is_empty() {
        return rule("granted to nobody, or nothing");
    }
    if let Some(alias) = &b.alias {
        check!(check_short(alias));
        if matches!(b.target, Target::Prefix(_)) {
            return rule("an alias is for one token");
        }
        if view.alias_taken(&b.to, alias)? {
            return rule(format!("{} has another grant under the alias {alias}", b.to));
        }
    }
    match view.grant(&b.grant)? {
        Some(_) => rule("this grant was given before"),
        None => Ok(Ok(())),
    }
}

pub(super) fn ungrant(b: &Ungrant, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(reaches(&b.target, "grant", view, |name| author.grants(name))?);
    match view.grant(&b.grant)? {
        Some(target) if target == b.target => Ok(Ok(())),
        _ => rule("no such grant"),
    }
}

pub(super) fn policy(b: &PolicyChange, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    // Parameters tell a hook where a new value goes, so only who may read it may set them.
    let may = |name: &str| author.is_admin() || author.writes(name) && author.opens(name);
    check!(reaches(&b.target, "write", view, may)?);
    if let Some(policy) = &b.policy {
        check!(policy_in_form(policy));
    }
    Ok(Ok(()))
}

fn policy_in_form(policy: &RotationPolicy) -> Result<(), String> {
    if policy.period <= policy.overlap {
        return Err("a period is longer than its overlap".into());
    }
    check_short(&policy.hook)?;
    pairs_in_form(&policy.params)
}
