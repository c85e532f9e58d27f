//! Text from strangers, made fit to show. SPEC.md 8.5.

/// Removes control characters and those that change the direction of text; keeps line feeds and tabs.
pub fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || steers(*c)))
        .collect()
}

/// Bidirectional controls, zero-width characters that hide, line separators and tags.
pub(crate) fn steers(c: char) -> bool {
    matches!(
        c,
        '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_a_reader_is_removed() {
        assert_eq!(
            clean("a\u{1b}[31mb\u{202e}c\r\u{7}\u{2066}d\n\te\u{200b}"),
            "a[31mbcd\n\te"
        );
        assert_eq!(clean("Қазақша ئۇيغۇرچە 中文"), "Қазақша ئۇيغۇرچە 中文");
    }
}
