//! The program from outside: what it prints and what it ends with.

mod help;
mod judging;
mod misuse;
mod program;
mod proxying;
mod publishing;
mod reconciling;
mod refusing;
mod simulating;
mod subjects;
mod watching;
