//! Which of the two text formats a client wants (RFC 9110, section 12.5.1).

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// Prometheus's own, which everything reads.
    Classic,
}

/// How well a range of `Accept` names a format, and how much the client wants it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Fit {
    /// 0: `*/*`, 1: `text/*`, 2: `text/plain`, 3: with its version.
    precision: u8,
    weight: f32,
}

impl Format {
    /// The better one for this `Accept`. If both are equally welcome, the classic one, unless the other was named.
    #[must_use]
    pub fn of(accept: &str) -> Self {
        let open_metrics = Self::OpenMetrics.wanted(accept);
        let classic = Self::Classic.wanted(accept).map_or(0.0, |fit| fit.weight);
        match open_metrics {
            Some(Fit { precision, weight })
                if weight > classic || (precision >= 2 && weight > 0.0 && weight >= classic) =>
            {
                Self::OpenMetrics
            }
            _ => Self::Classic,
        }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    const fn name(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
            Self::Classic => ("text", "plain", "0.0.4"),
        }
    }

    /// How much this format is wanted, by the range that names it best.
    fn wanted(self, accept: &str) -> Option<Fit> {
        let fits = split(accept, ',').filter_map(|range| self.fit(range));
        fits.reduce(|best, fit| if fit > best { fit } else { best })
    }

    fn fit(self, range: &str) -> Option<Fit> {
        let mut parts = split(range, ';');
        let (kind, subtype) = parts.next()?.trim().split_once('/')?;
        let (our_kind, our_subtype, our_version) = self.name();
        let mut precision = match (kind, subtype) {
            ("*", "*") => 0,
            (kind, "*") if kind.eq_ignore_ascii_case(our_kind) => 1,
            (kind, subtype) if kind.eq_ignore_ascii_case(our_kind) && subtype.eq_ignore_ascii_case(our_subtype) => 2,
            _ => return None,
        };
        let mut weight = 1.0;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => weight = value.parse().unwrap_or(1.0),
                name if !name.eq_ignore_ascii_case("version") => {}
                _ if value == our_version => precision = 3,
                _ => return None,
            }
        }
        Some(Fit { precision, weight: if (0.0..=1.0).contains(&weight) { weight } else { 1.0 } })
    }
}

/// The parts between separators, except those inside quoted strings.
fn split(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    list.split(move |character| {
        is_quoted ^= character == '"';
        character == separator && !is_quoted
    })
}
