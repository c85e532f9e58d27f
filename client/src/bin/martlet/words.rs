//! The program's words in the reader's language, from `client/words/*.ftl`. What is missing there is said in English.

use std::{ffi::OsString, sync::OnceLock};

use fluent_bundle::{FluentArgs, FluentBundle, FluentResource};
use unic_langid::LanguageIdentifier;

static LANGUAGE: OnceLock<Language> = OnceLock::new();

/// The languages that there are words in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Language {
    Arabic,
    #[default]
    English,
    Spanish,
    Persian,
    French,
    Russian,
}

impl Language {
    #[cfg(test)]
    const ALL: [Self; 6] = [
        Self::Arabic,
        Self::English,
        Self::Spanish,
        Self::Persian,
        Self::French,
        Self::Russian,
    ];

    /// Reads a tag (`fr-CH`) or the name of a locale (`fr_CH.UTF-8`).
    fn from_tag(tag: &str) -> Option<Self> {
        let name = tag.split(['-', '_', '.', '@']).next()?.to_ascii_lowercase();
        match name.as_str() {
            "ar" => Some(Self::Arabic),
            "en" => Some(Self::English),
            "es" => Some(Self::Spanish),
            "fa" => Some(Self::Persian),
            "fr" => Some(Self::French),
            "ru" => Some(Self::Russian),
            _ => None,
        }
    }

    const fn tag(self) -> &'static str {
        match self {
            Self::Arabic => "ar",
            Self::English => "en",
            Self::Spanish => "es",
            Self::Persian => "fa",
            Self::French => "fr",
            Self::Russian => "ru",
        }
    }

    const fn source(self) -> &'static str {
        match self {
            Self::Arabic => include_str!("../../../words/ar.ftl"),
            Self::English => include_str!("../../../words/en.ftl"),
            Self::Spanish => include_str!("../../../words/es.ftl"),
            Self::Persian => include_str!("../../../words/fa.ftl"),
            Self::French => include_str!("../../../words/fr.ftl"),
            Self::Russian => include_str!("../../../words/ru.ftl"),
        }
    }

    const fn is_right_to_left(self) -> bool {
        matches!(self, Self::Arabic | Self::Persian)
    }

    /// The message of a key, if this language has it.
    fn message(self, key: &str, detail: Option<&str>) -> Option<String> {
        // What a file has beside its mistakes can still be said; a test shows that there are none.
        let resource =
            FluentResource::try_new(self.source().into()).unwrap_or_else(|(resource, _mistakes)| resource);
        let tag: LanguageIdentifier = self.tag().parse().ok()?;
        let mut bundle = FluentBundle::new(vec![tag]);
        // Details are in English: only among other words need they be kept apart.
        bundle.set_use_isolating(self != Self::English);
        bundle.add_resource(resource).ok()?;
        let pattern = bundle.get_message(key)?.value()?;
        let mut args = FluentArgs::new();
        if let Some(detail) = detail {
            args.set("detail", detail);
        }
        let mut mistakes = Vec::new();
        let said = bundle.format_pattern(pattern, Some(&args), &mut mistakes);
        if !mistakes.is_empty() {
            return None;
        }
        Some(if self.is_right_to_left() {
            apart(&said)
        } else {
            said.into_owned()
        })
    }

    /// The words of a key in this language, or else in English.
    fn say(self, key: &str, detail: Option<&str>) -> String {
        self.message(key, detail)
            .or_else(|| Self::English.message(key, detail))
            .unwrap_or_else(|| key.into())
    }
}

/// Keeps commands in backticks whole within words that run from right to left.
fn apart(said: &str) -> String {
    let mut whole = String::with_capacity(said.len());
    for (nth, piece) in said.split('`').enumerate() {
        if nth % 2 == 1 {
            whole.push_str(&format!("\u{2066}`{piece}`\u{2069}"));
        } else {
            whole.push_str(piece);
        }
    }
    whole
}

/// Chooses the language: `--lang` among the arguments, else the first of the locale's variables that is set.
pub(crate) fn choose(
    args: impl Iterator<Item = OsString>,
    var: impl Fn(&str) -> Option<OsString>,
) -> Language {
    let mut asked = None;
    let mut args = args.map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        if arg == "--lang" {
            asked = args.next();
        } else if let Some(tag) = arg.strip_prefix("--lang=") {
            asked = Some(tag.into());
        }
    }
    let set = || {
        ["LC_ALL", "LC_MESSAGES", "LANG"]
            .into_iter()
            .find_map(|name| var(name).filter(|value| !value.is_empty()))
            .map(|value| value.to_string_lossy().into_owned())
    };
    asked
        .or_else(set)
        .and_then(|tag| Language::from_tag(&tag))
        .unwrap_or_default()
}

/// Speaks this language from here on.
pub(crate) fn speak(language: Language) {
    LANGUAGE.get_or_init(|| language);
}

/// The words of a key, in the language chosen.
pub(crate) fn say(key: &str, detail: Option<&str>) -> String {
    LANGUAGE.get().copied().unwrap_or_default().say(key, detail)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use martlet::{Error, advice::Words};

    use super::*;

    /// Each key with its placeables and commands, in order of their text.
    fn shape(language: Language) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
        FluentResource::try_new(language.source().into()).unwrap();
        let said = language.source().lines().filter(|line| !line.starts_with('#'));
        said.filter_map(|line| line.split_once(" = "))
            .map(|(key, said)| {
                let odd = |mark: &str| -> Vec<String> {
                    let mut found: Vec<_> = said.split(mark).skip(1).step_by(2).map(String::from).collect();
                    found.sort();
                    found
                };
                let placeables = said.split('{').skip(1).filter_map(|rest| rest.split('}').next());
                (
                    key.to_string(),
                    (placeables.map(str::to_string).collect(), odd("`")),
                )
            })
            .collect()
    }

    #[test]
    fn every_failure_has_its_pair_in_every_language() {
        for language in Language::ALL {
            for Words { err, advice } in Words::ALL {
                assert!(language.message(err, Some("7")).is_some(), "{language:?} {err}");
                assert!(language.message(advice, None).is_some(), "{language:?} {advice}");
            }
        }
    }

    #[test]
    fn every_language_says_the_same_things() {
        let english = shape(Language::English);
        assert!(english.len() > Words::ALL.len());
        for language in Language::ALL {
            assert_eq!(shape(language), english, "{language:?}");
        }
    }

    #[test]
    fn english_is_what_the_library_says() {
        for error in [
            Error::NoVault,
            Error::Partly,
            Error::Internal("here"),
            Error::Unreachable,
            Error::Usage(martlet::Usage::Days),
            Error::Verification(martlet::Mismatch::Pin),
            Error::NotFound(martlet::Missing::Case),
        ] {
            let said = Language::English.say(error.words().err, error.detail().as_deref());
            assert_eq!(said, error.to_string());
        }
    }

    #[test]
    fn what_is_foreign_is_kept_apart() {
        let said = Language::Persian.say("err-file", Some("denied"));
        assert!(said.contains("\u{2068}denied\u{2069}"), "{said}");
        let said = Language::Arabic.say("do-unreachable", None);
        assert!(said.contains("\u{2066}`martlet sync`\u{2069}"), "{said}");
    }

    #[test]
    fn the_language_is_asked_for_or_the_locales() {
        let choose = |args: &[&str], vars: &[(&str, &str)]| {
            super::choose(args.iter().map(OsString::from), |name| {
                let found = vars.iter().find(|(var, _)| *var == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let locale = [("LANG", "es_MX.UTF-8"), ("LC_MESSAGES", "fa"), ("LC_ALL", "")];
        assert_eq!(choose(&["martlet", "--lang", "fr-CH"], &locale), Language::French);
        assert_eq!(choose(&["martlet", "--lang=ru"], &locale), Language::Russian);
        assert_eq!(choose(&["martlet", "--lang", "xx"], &locale), Language::English);
        assert_eq!(choose(&["martlet"], &locale), Language::Persian);
        assert_eq!(choose(&["martlet"], &[("LANG", "ar")]), Language::Arabic);
        assert_eq!(
            choose(&["martlet"], &[("LC_ALL", "C"), ("LANG", "ar")]),
            Language::English
        );
        assert_eq!(choose(&["martlet"], &[]), Language::English);
    }
}
