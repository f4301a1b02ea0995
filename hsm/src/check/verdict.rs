//! From observations to a judgement. Pure.

use super::{CheckReport, Verdict, Weight};

/// Fills in verdict and reasons.
pub(super) fn judge(report: &mut CheckReport) {
    let mut found: Vec<(Weight, String)> = Vec::new();
    if report.profile.is_none() {
        let for_it = if report.kek.is_some() { " for this key" } else { "" };
        found.push((Weight::Bad, format!("no wrap profile works{for_it}")));
    }
    if let Some(kek) = &report.kek {
        found.extend(kek.reservations().into_iter().map(|why| (Weight::Bad, why)));
    }
    for line in report.lines.iter().filter(|line| line.weight >= Weight::Reservation) {
        found.push((line.weight, format!("{}: {}", line.name, line.seen)));
    }
    found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    report.verdict = match found.first() {
        None => Verdict::Fit,
        Some((Weight::Bad, _)) => Verdict::Unfit,
        Some(_) => Verdict::FitWithReservations,
    };
    report.reasons = found.into_iter().map(|(_, why)| why).collect();
}
