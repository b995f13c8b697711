//! The lifecycle rules of a repository: made once, for every class of lock there can be.
//!
//! They remove what nobody is promised any more. A version that is still locked stays, whatever a rule says: the lock decides,
//! not the rule. So a rule that is too short costs nothing but delete markers, and one that is too long costs storage.

use std::time::Duration;

use stonekeep_format::lock::Class;
use stonekeep_store::{LifecycleAction, LifecycleRule};

/// How long versions stay after their lock has ended (30 d): a daemon that died does not cost the last backups at once, and
/// somebody has a month to notice and extend them.
pub const GRACE_DAYS: u32 = 30;

/// Days after which an upload in parts that was not completed is given up (2 d). No run makes one, so none is lost.
pub const ABORT_DAYS: u32 = 2;

/// Days after which `prove`'s canaries go (3 d): their locks, of two days at most, have ended then, and nobody misses them.
const CANARY_DAYS: u32 = 3;

/// Where they lie. The second is no folder of the writer's: `prove` tries to put there, and leaves some bytes where it can. Not
/// one rule for both, which would take whatever else begins with `canary`.
const CANARIES: [&str; 2] = ["canary", "canary-outside"];

/// Returns the rules for locks of at most `cap`: one for each class of segments and of inventories, and one each for what has no
/// class in its key: attempt records, which are locked for days, manifests, of which the longest lock decides, records of drills,
/// and canaries; and one for uploads in parts. A genesis never expires.
#[must_use]
pub fn rules(cap: Duration, grace_days: u32) -> Vec<LifecycleRule> {
    let cap_days = u32::try_from(cap.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX);
    let longest = Class::ladder().find(|class| class.days() >= cap_days).unwrap_or(Class::MAX);
    let rule = |id: String, prefix: String, days: u32| LifecycleRule {
        id,
        prefix,
        action: LifecycleAction::Expire { days: days.saturating_add(grace_days) },
    };
    let classes = Class::ladder().take_while(|class| *class <= longest);
    let of_class = |class: Class| {
        ["segments", "inventories"].map(|kind| {
            rule(format!("stonekeep-{kind}-{class}"), format!("{kind}/{class}/"), class.days())
        })
    };
    let mut rules: Vec<LifecycleRule> = classes.flat_map(of_class).collect();
    rules.push(rule("stonekeep-attempts".to_owned(), "attempts/".to_owned(), ATTEMPT_DAYS));
    rules.push(rule("stonekeep-reports".to_owned(), "reports/".to_owned(), REPORT_DAYS));
    rules.push(rule("stonekeep-manifests".to_owned(), "manifests/".to_owned(), longest.days()));
    rules.extend(CANARIES.map(|folder| LifecycleRule {
        id: format!("stonekeep-{folder}"),
        prefix: format!("{folder}/"),
        action: LifecycleAction::Expire { days: CANARY_DAYS },
    }));
    rules.push(LifecycleRule {
        id: "stonekeep-abort".to_owned(),
        prefix: String::new(),
        action: LifecycleAction::AbortUploads { days: ABORT_DAYS },
    });
    rules
}

/// The class of an attempt record's lock: two days and the day that a run may take.
pub(crate) const ATTEMPT_DAYS: u32 = 4;

/// How long the record of a drill is of use (400 d): a year of evidence and a month to show it in. Its lock is no longer than the
/// repository's longest, but it stays: it is some hundred bytes, and earlier drills are what a new one is compared with.
pub(crate) const REPORT_DAYS: u32 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_up_to_the_cap_has_a_rule_and_s3_takes_them_all() {
        let day = Duration::from_secs(86_400);
        let rules = rules(day * 67, GRACE_DAYS);
        let of = |id: &str| rules.iter().find(|rule| rule.id == id).map(|rule| rule.action);
        let expire = |days| Some(LifecycleAction::Expire { days });
        assert_eq!(of("stonekeep-segments-32"), expire(62));
        assert_eq!(of("stonekeep-inventories-80"), expire(110));
        assert_eq!(of("stonekeep-segments-96"), None, "no lock is longer than the cap");
        assert_eq!(of("stonekeep-manifests"), expire(110));
        assert_eq!(
            of("stonekeep-reports"),
            expire(430),
            "a year of evidence, however short the keep"
        );
        assert_eq!(of("stonekeep-canary"), expire(3), "canaries are nobody's backups");
        assert_eq!(of("stonekeep-abort"), Some(LifecycleAction::AbortUploads { days: 2 }));
        // S3 takes a thousand rules.
        assert!(super::rules(day * 40_000, GRACE_DAYS).len() < 100);
        // One class never stands in another's prefix.
        let is_expiry =
            |rule: &&LifecycleRule| matches!(rule.action, LifecycleAction::Expire { .. });
        for rule in rules.iter().filter(is_expiry) {
            let covered = rules.iter().filter(|other| other.prefix.starts_with(&rule.prefix));
            assert_eq!(covered.count(), 1, "{}", rule.prefix);
        }
    }

    #[test]
    fn what_prove_leaves_where_no_writer_may_put_goes_like_a_canary() {
        let rules = rules(Duration::from_secs(86_400), GRACE_DAYS);
        let of = |key: &str| {
            let is_of =
                |rule: &&LifecycleRule| !rule.prefix.is_empty() && key.starts_with(&rule.prefix);
            rules.iter().filter(is_of).map(|rule| rule.action).collect::<Vec<_>>()
        };
        let expiry = [LifecycleAction::Expire { days: CANARY_DAYS }];
        assert_eq!(of("canary-outside/01JD8Z0000000000000000000A"), expiry);
        assert_eq!(of("canary/01JD8Z0000000000000000000A/C0"), expiry);
        assert_eq!(of("canary-islands.jpg"), [], "what is not ours");
    }
}
