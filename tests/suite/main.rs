mod architecture;
mod collect;
mod cli;
mod output;
mod rules;
