//! Rules about the repository itself: its folders, its code, its texts, and its generated files.
//!
//! Each file holds one rule. A violation is printed as `file:line: text`, and each rule is also checked against a short
//! sample that violates it, so that a rule which finds nothing cannot pass unnoticed.

mod circles;
mod decisions;
mod doc_comments;
mod fixed_times;
mod folders;
mod generated;
mod imports;
mod modules;
mod names;
mod parameters;
mod paths;
mod pronouns;
mod source;
mod timers;
