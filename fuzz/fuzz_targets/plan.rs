//! Any text as a Plan: an error or a Plan that survives being printed, never a panic.
#![no_main]

use std::path::Path;
use sterna_model::Plan;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(plan) = Plan::parse(Path::new("plan.toml"), text) {
        let printed = plan.print();
        let again = Plan::parse(Path::new("plan.toml"), &printed).expect("what was printed parses");
        assert_eq!(again.print(), printed);
    }
});
