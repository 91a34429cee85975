#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| comfy_auth_rs_fuzz::state::check(data));
