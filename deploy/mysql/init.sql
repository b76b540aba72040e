-- The users' database. Run it as an administrator of MySQL or MariaDB; it may run again, and changes nothing that is there:
--
--   mysql -u root -p < deploy/mysql/init.sql
--
-- `tapedeck migrate` makes the same tables in a database that exists.

CREATE DATABASE IF NOT EXISTS auth;
USE auth;

-- The original auth service's table. It is never altered.
CREATE TABLE IF NOT EXISTS `user` (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(255) NOT NULL UNIQUE,
  password VARCHAR(255) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;

-- Who is an administrator: the e-mail in lower case, and `admin`. Everybody else is a user.
CREATE TABLE IF NOT EXISTS tapedeck_role (
  email VARCHAR(255) NOT NULL PRIMARY KEY,
  role VARCHAR(16) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The MySQL user that the service runs as has no default: choose a name and a password, and put them into `auth-configmap`
-- (MYSQL_USER) and `auth-secret` (MYSQL_PASSWORD). These four rights are all that it needs; without DELETE it cannot remove users.
--
--   CREATE USER '<name>'@'%' IDENTIFIED BY '<password>' REQUIRE SSL;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON auth.* TO '<name>'@'%';
--
-- Users of Tapedeck are added by the page's set-up link, or by `tapedeck user add`.
