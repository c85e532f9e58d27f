//! Fuzzes the parser that this binary is named after: see `martlet_tests::parsers`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_tests::parsers::PARSERS;

fuzz_target!(|bytes: &[u8]| {
    for (name, parser) in PARSERS {
        if name == env!("CARGO_BIN_NAME") {
            parser(bytes);
        }
    }
});
