mod architecture;
mod cli;
mod output;
mod rules;
