mod architecture;
mod cli;
mod collect;
mod output;
mod rules;
