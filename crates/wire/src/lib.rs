//! The Postgres wire: SQL over the lake's views for psql, drivers and BI tools.
