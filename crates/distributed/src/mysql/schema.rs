//! The tables. deploy/mysql/init.sql makes the same ones for whoever prefers to make them by hand; a test compares the two.

use super::trouble::number;
use sqlx::{AssertSqlSafe, Error, MySqlConnection, query};

/// As the originals make it, with the character set named.
const USER: &str = "CREATE TABLE IF NOT EXISTS `user` (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(255) NOT NULL UNIQUE,
  password VARCHAR(255) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci";

const ROLE: &str = "CREATE TABLE IF NOT EXISTS tapedeck_role (
  email VARCHAR(255) NOT NULL PRIMARY KEY,
  role VARCHAR(16) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";

/// Makes what is missing. Looks first: where nothing is missing, the right to create is not needed.
pub(super) async fn migrate(connection: &mut MySqlConnection) -> Result<(), Error> {
    for (table, statement) in [("user", USER), ("tapedeck_role", ROLE)] {
        let look = format!("SELECT 1 FROM `{table}` LIMIT 0");
        match query(AssertSqlSafe(look)).execute(&mut *connection).await {
            // No such table; or no right on it, which is said of a missing one, too.
            Err(error) if matches!(number(&error), Some(1146 | 1142)) => {
                query(statement).execute(&mut *connection).await?;
                tracing::info!("the table {table} is made");
            }
            found => found.map(|_| ())?,
        }
    }
    Ok(())
}
