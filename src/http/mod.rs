//! What Dayfly serves over HTTP.

pub mod log_page;
