//! Prometheus' text format, as far as our own ports write it.

/// The lines of a `/metrics`: name, labels, value.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<(String, String, f64)>);

impl Series {
    /// Reads what it can; what is no series is left out.
    pub(super) fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}')?.to_owned();
            Some((name.to_owned(), labels, value.parse().ok()?))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(line).collect())
    }

    /// Returns a metric's series: labels and value.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let named = self.0.iter().filter(move |(found, ..)| found == name);
        named.map(|(_, labels, value)| (labels.as_str(), *value))
    }

    /// Returns the sum of a metric's series; `None` where it has none.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.all(name).map(|(_, value)| value).reduce(|sum, value| sum + value)
    }

    /// Returns the sum of those series whose labels are as wanted.
    pub(super) fn sum_where(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        let wanted = self.all(name).filter(|(labels, _)| wanted(labels));
        wanted.fold(0.0, |sum, (_, value)| sum + value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_registry_writes_is_read() {
        let text = "# HELP a_total A { thing } 5.\n# TYPE a_total counter\na_total{x=\"1\",y=\"a b\"} 2\na_total{x=\"2\"} 3\n\
                    b 0.5\nnonsense\n";
        let series = Series::read(text);
        assert_eq!(series.sum("a_total"), Some(5.0));
        assert_eq!(series.sum_where("a_total", |labels| labels.contains("x=\"2\"")), 3.0);
        assert_eq!(series.all("b").collect::<Vec<_>>(), [("", 0.5)]);
        assert_eq!(series.sum("c"), None);
    }
}
