//! Finds libsofia-sip-ua, when it is wanted.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_LINK").is_none() {
        return;
    }
    // LGPL: linked dynamically, and never otherwise.
    let found = pkg_config::Config::new()
        .atleast_version("1.12.11")
        .statik(false)
        .probe("sofia-sip-ua");
    if let Err(error) = found {
        println!(
            "cargo::error=the feature `link` of siprtc-sip-sofia needs libsofia-sip-ua 1.12.11 with its headers: on \
             Debian and Ubuntu `apt-get install libsofia-sip-ua-dev pkg-config`, elsewhere the package sofia-sip; or \
             build without the feature ({})",
            error.to_string().lines().next().unwrap_or_default()
        );
    }
}
