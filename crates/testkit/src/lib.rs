//! Fakes for each port and the conformance suites
