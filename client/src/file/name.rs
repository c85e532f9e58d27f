//! File names from peers, made safe: one path component that no system takes for anything else. SPEC.md 8.5. Pure.

/// What a name becomes of which nothing is left.
const FALLBACK: &str = "document";
/// The most bytes of a safe name.
const BYTES_MAX: usize = 120;
/// The most bytes of an extension that is kept when a name is cut.
const EXTENSION_MAX: usize = 16;

/// One safe path component from a peer's file name. Doing it twice changes nothing.
///
/// ```
/// use martlet::file::name::safe_name;
/// assert_eq!(safe_name("../../.bashrc"), "bashrc");
/// assert_eq!(safe_name("CON.txt"), "_CON.txt");
/// assert_eq!(safe_name("\u{202e}fdp.exe"), "fdp.exe");
/// assert_eq!(safe_name(""), "document");
/// ```
pub fn safe_name(raw: &str) -> String {
    let last = raw
        .rsplit(['/', '\\'])
        .find(|part| !part.trim_matches(is_edge).is_empty())
        .unwrap_or_default();
    let cleaned = martlet_proto::clean(last);
    let kept: String = cleaned
        .chars()
        .map(|c| if is_special(c) { '_' } else { c })
        .collect();
    let name = cut(kept.trim_matches(is_edge), BYTES_MAX);
    if name.is_empty() {
        FALLBACK.to_string()
    } else if is_device(&name) {
        format!("_{}", cut(&name, BYTES_MAX.saturating_sub(1)))
    } else {
        name
    }
}

/// What no name begins or ends with: dots hide, hyphens are options, spaces deceive.
fn is_edge(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '.' | '-' | '~')
}

fn is_special(c: char) -> bool {
    matches!(
        c,
        '\n' | '\t' | '<' | '>' | ':' | '"' | '|' | '?' | '*' | '%' | '$' | '`' | '\'' | ';' | '&'
    )
}

/// Names that Windows takes for devices, whatever their extension.
fn is_device(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        other => {
            let numbered = other.strip_prefix("COM").or_else(|| other.strip_prefix("LPT"));
            numbered.is_some_and(|number| {
                matches!(number, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9")
            })
        }
    }
}

/// At most so many bytes, the extension kept, the edges trimmed.
fn cut(name: &str, bytes_max: usize) -> String {
    if name.len() <= bytes_max {
        return name.to_string();
    }
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    let extension = extension
        .filter(|extension| (1..=EXTENSION_MAX).contains(&extension.len()))
        .unwrap_or_default();
    let room = bytes_max.saturating_sub(extension.len()).saturating_sub(1);
    let mut stem = String::new();
    for c in name.chars() {
        if stem.len().saturating_add(c.len_utf8()) > room {
            break;
        }
        stem.push(c);
    }
    let stem = stem.trim_end_matches(is_edge);
    match extension.is_empty() {
        true => stem.to_string(),
        false => format!("{stem}.{extension}"),
    }
}

/// The name, or the first of `name (2).ext`, `name (3).ext` and so on that is not taken.
pub fn unused_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(name) {
        return name.to_string();
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        Some(_) | None => (name, String::new()),
    };
    let numbered = (2u32..).map(|number| format!("{stem} ({number}){extension}"));
    numbered
        .take(100_000)
        .find(|candidate| !is_taken(candidate))
        .unwrap_or_else(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_become_one_safe_component() {
        for (raw, safe) in [
            ("../../x", "x"),
            (".bashrc", "bashrc"),
            ("CON", "_CON"),
            ("nul.tar.gz", "_nul.tar.gz"),
            ("", "document"),
            ("..", "document"),
            ("a/b\\c.pdf", "c.pdf"),
            ("-rf", "rf"),
            ("a\nb\u{202e}c\u{0}.pdf", "a_bc.pdf"),
            ("x:stream", "x_stream"),
            ("report.pdf. . ", "report.pdf"),
            ("куәлік.jpg", "куәлік.jpg"),
            ("گۇۋاھلىق.pdf", "گۇۋاھلىق.pdf"),
            ("/", "document"),
        ] {
            assert_eq!(safe_name(raw), safe, "{raw:?}");
        }
        let long = safe_name(&format!("{}.pdf", "ж".repeat(300)));
        assert!(long.len() <= BYTES_MAX && long.ends_with(".pdf"));
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        assert_eq!(unused_name("a.pdf", |_| false), "a.pdf");
        assert_eq!(unused_name("a.pdf", |name| name == "a.pdf"), "a (2).pdf");
        assert_eq!(unused_name("a", |name| name != "a (3)"), "a (3)");
    }

    proptest! {
        #[test]
        fn every_name_becomes_safe_and_stays_so(raw in "\\PC{0,300}|.{0,40}") {
            let safe = safe_name(&raw);
            prop_assert!(!safe.is_empty() && safe.len() <= BYTES_MAX + 1);
            prop_assert!(!safe.contains(['/', '\\', '\0', '\n']) && safe != "." && safe != "..");
            prop_assert!(!safe.starts_with(['.', '-']));
            prop_assert_eq!(safe_name(&safe), safe);
        }
    }
}
