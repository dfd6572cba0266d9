//! One test for each scenario and network.

/// Makes tests of every scenario: `sip_conformance!(my_plugin::factory());` in `tests/conformance.rs`.
///
/// The expression is an `Arc<dyn SipStackFactory>`; it is evaluated once for each test. A test is called by its
/// scenario and what it runs over: `an_options_makes_a_round_trip::over_udp`.
#[macro_export]
macro_rules! sip_conformance {
    ($factory:expr) => {
        fn sip_factory() -> ::std::sync::Arc<dyn $crate::sip::SipStackFactory> {
            $factory
        }
        $crate::sip_scenarios!(sip_tests_of);
    };
}

/// Makes tests of a table's rows.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_tests_of {
    ({} $module:ident $(
        $name:ident $kind:ident [$($crossed:ident)* $(| $($own:ident)+)?] [$($need:ident)*]
        $section:literal $about:literal;
    )+) => {
        $(mod $name {
            $($crate::sip_test_of!($name $crossed);)*
            $($($crate::sip_test_of!($name $own);)+)?
        })+
    };
}

/// Makes one test.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_test_of {
    ($name:ident Udp) => { $crate::sip_test_of!(over_udp $name Udp); };
    ($name:ident Tcp) => { $crate::sip_test_of!(over_tcp $name Tcp); };
    ($name:ident Udp6) => { $crate::sip_test_of!(over_udp_and_ipv6 $name Udp6); };
    ($name:ident Tcp6) => { $crate::sip_test_of!(over_tcp_and_ipv6 $name Tcp6); };
    ($name:ident Tls) => { $crate::sip_test_of!(over_tls $name Tls); };
    ($name:ident Ws) => { $crate::sip_test_of!(over_ws $name Ws); };
    ($name:ident Wss) => { $crate::sip_test_of!(over_wss $name Wss); };
    ($test:ident $name:ident $network:ident) => {
        #[test]
        fn $test() {
            $crate::sip::check(super::sip_factory(), stringify!($name), $crate::sip::Network::$network);
        }
    };
}
