//! What the command `plan` prints: the attempts and waits of the policy, and what becomes of requests in an outage.

mod outage;

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use retry_client::{RetryMethods, retry_core::PolicyError};

use self::outage::{Fault, OutageRules, Request};
use crate::settings::Settings;

/// How long the outages last.
const OUTAGES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Returns the text for these settings.
///
/// # Errors
///
/// Returns an error if the settings are not a valid policy.
pub(crate) fn text(settings: &Settings) -> Result<String, PolicyError> {
    let mut text = format!("{}{}\n", settings.plan()?, limits(settings));
    if settings.forward {
        // Writing to a string cannot fail.
        let _ = write_outages(&mut text, settings, &rules(settings)?);
    }
    Ok(text)
}

/// Returns what limits an attempt, and what may extend a wait.
fn limits(settings: &Settings) -> String {
    let timeouts = &settings.timeouts;
    let attempt = match (timeouts.attempt_timeout.0, timeouts.timeout.0) {
        (Some(limit), _) => format!("Each attempt takes at most {limit:?} (--attempt-timeout)."),
        (None, Some(timeout)) => {
            let connect = timeouts.connect_timeout;
            format!("An attempt fails after {connect:?} without a connection, or {timeout:?} without data (--timeout).")
        }
        (None, None) => "The time of an attempt is not limited: --timeout and --attempt-timeout are off.".to_owned(),
    };
    let retry_after = Some(&settings.retries).filter(|retries| !retries.status_codes.0.is_empty()).map(|retries| {
        format!("Retry-After may extend each wait to {:?} (--retry-after-max)", retries.retry_after_max)
    });
    let parked = settings
        .outages
        .outage_wait
        .0
        .filter(|_| settings.forward)
        .map(|limit| format!("a request may be parked for {limit:?} during an outage (--outage-wait)"));
    let excluded: Vec<_> = retry_after.into_iter().chain(parked).collect();
    match &*excluded {
        [] => attempt,
        [one] => format!("{attempt} {one}; the times above do not include that."),
        several => format!("{attempt} {}; the times above include neither.", several.join(", and ")),
    }
}

fn rules(settings: &Settings) -> Result<OutageRules, PolicyError> {
    let timeouts = &settings.timeouts;
    let limits = [("--attempt-timeout", timeouts.attempt_timeout.0), ("--timeout", timeouts.timeout.0)];
    let limits = limits.into_iter().filter_map(|(flag, limit)| Some((limit?, flag)));
    Ok(OutageRules {
        policy: settings.policy()?,
        outage_wait: settings.outages.outage_wait.0,
        attempt_limit: limits.min(),
        retries_503: settings.retries.status_codes.0.contains(&503),
        has_alternative: settings.may_have_several_endpoints(),
    })
}

fn write_outages(text: &mut String, settings: &Settings, rules: &OutageRules) -> fmt::Result {
    writeln!(text, "\nWhat a client gets if its request arrives at the beginning of an outage of the upstream:\n")?;
    writeln!(text, "{:<19}  {:<7}  {:<11}  the client gets", "the upstream", "request", "outage")?;
    for fault in [Fault::Refuses, Fault::NeverResponds, Fault::Responds503] {
        let outcomes = |is_repeatable| OUTAGES.map(|lasts| rules.outcome(Request { fault, is_repeatable, lasts }));
        let may_repeat_post = settings.retries.retry_methods == RetryMethods::All;
        let (get, post) = (outcomes(true), outcomes(may_repeat_post));
        let rows = if get == post { vec![("any", get)] } else { vec![("GET", get), ("POST", post)] };
        let mut upstream = fault.to_string();
        for (mut request, outcomes) in rows {
            for outcomes in OUTAGES.iter().zip(outcomes).collect::<Vec<_>>().chunk_by(|(_, one), (_, next)| one == next)
            {
                let outages: Vec<_> = outcomes.iter().map(|(lasts, _)| format!("{lasts:?}")).collect();
                let outcome = outcomes.first().map_or("", |(_, outcome)| outcome);
                writeln!(text, "{upstream:<19}  {request:<7}  {:<11}  {outcome}", outages.join(", "))?;
                upstream.clear();
                request = "";
            }
        }
    }
    writeln!(text, "\nGET stands for requests that may be repeated, POST for the others.")?;
    if settings.retries.budget_ratio.0.is_some() {
        writeln!(text, "Retries also need the budget (--budget-ratio): once it is used up, a request is not retried.")?;
    }
    if rules.has_alternative {
        writeln!(text, "While another endpoint is up, requests go there, and the first retry of each does not wait.")?;
    }
    Ok(())
}
