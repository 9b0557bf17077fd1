//! What can go wrong with a database, and with the way to it.

mod cuts;
mod faults;
mod planted;
mod roles;
