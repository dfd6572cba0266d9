//! Real servers and clients, and the rules that hold for the whole workspace
