//! What was found, and how it is told.

use core::fmt::Write as _;

use crate::cli::ensemble::status::quoted;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// It does not work, or data or service will be lost.
    Wrong,
    /// It works, until something happens that will.
    Risk,
    /// Worth knowing, or something could not be looked at.
    Note,
}

impl Weight {
    const fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Risk => "risk",
            Self::Note => "note",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) weight: Weight,
    /// A file, a server, or what all are together.
    pub(super) about: String,
    /// What is so, as a clause.
    pub(super) text: String,
    /// What to do, as a clause; empty if there is nothing to do.
    pub(super) advice: String,
}

impl Finding {
    pub(super) fn new(
        weight: Weight,
        about: impl Into<String>,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            weight,
            about: about.into(),
            text: text.into(),
            advice: advice.into(),
        }
    }
}

/// For people.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding {
            weight,
            about,
            text: what,
            advice,
        } = finding;
        let _infallible = write!(text, "{}: {about}: {what}", weight.name());
        if !advice.is_empty() {
            let _infallible = write!(text, "; {advice}");
        }
        text.push('\n');
    }
    let count = |weight| findings.iter().filter(|it| it.weight == weight).count();
    let summary = match (count(Weight::Wrong), count(Weight::Risk)) {
        (0, 0) => "well: nothing wrong was found".to_owned(),
        (wrong, risks) => format!("not well: wrong {wrong}, risks {risks}"),
    };
    text + &summary + "\n"
}

/// For programs: one object.
pub(super) fn json(findings: &[Finding]) -> String {
    let objects: Vec<String> = findings
        .iter()
        .map(|finding| {
            format!(
                "{{\"weight\":{},\"about\":{},\"text\":{},\"advice\":{}}}",
                quoted(finding.weight.name()),
                quoted(&finding.about),
                quoted(&finding.text),
                quoted(&finding.advice),
            )
        })
        .collect();
    let well = findings.iter().all(|it| it.weight == Weight::Note);
    format!("{{\"well\":{well},\"findings\":[{}]}}\n", objects.join(","))
}
