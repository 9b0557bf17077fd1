//! HTTP/1.1 on the agent's Unix socket: connections, routes, and what a request is answered with.

pub mod admin_handlers;
pub mod authorized;
pub mod body;
mod clients;
pub mod handlers;
pub mod health;
pub mod io_timeout;
pub mod params;
pub mod response;
pub mod routes;
pub mod server;
pub mod watch;
