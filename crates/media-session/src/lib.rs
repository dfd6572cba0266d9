//! One media peer's audio: codecs, jitter buffer, sources and sinks, statistics
