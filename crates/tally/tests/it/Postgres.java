// What JDBC does on the Postgres port. Run by postgres.rs, as one source file, with the address of a server that has counted 3,000
// clicks, a thousand of campaign `one`, all on 5 May 2024.

import java.sql.*;
import java.util.*;

public class Postgres {
    static void check(String what, Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError(what + ": " + found + " instead of " + expected);
        }
    }

    static Connection connect(String url, String... options) throws SQLException {
        return DriverManager.getConnection(url + "?user=analyst&" + String.join("&", options));
    }

    static void statements(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT campaign_id, clicks, bucket FROM campaign_day ORDER BY 1")) {
            check("a row", rows.next(), true);
            check("text", rows.getString("campaign_id"), "one");
            check("a number", rows.getLong("clicks"), 1000L);
            check("a time", rows.getTimestamp("bucket").toInstant().toString(), "2024-05-05T00:00:00Z");
            check("another row", rows.next() && rows.getLong(2) == 2000, true);
            check("the last row", rows.next(), false);
        }
        // From the fifth time on the driver keeps the statement on the server, and asks for binary values.
        String sql = "SELECT count(*), sum(cost_micros) FROM events WHERE campaign_id = ? AND log_offset >= ? AND occurred_at >= ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int time = 0; time < 8; time++) {
                statement.setString(1, "one");
                statement.setLong(2, 0);
                statement.setTimestamp(3, Timestamp.from(java.time.Instant.parse("2024-05-05T00:00:00Z")));
                try (ResultSet rows = statement.executeQuery()) {
                    check("prepared", rows.next() && rows.getLong(1) == 1000, true);
                    check("money", rows.getBigDecimal(2).longValueExact(), 0L);
                }
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT nothing FROM events")) {
            statement.executeQuery();
            throw new AssertionError("a column that is not there was found");
        } catch (SQLException error) {
            check("an error names it: " + error.getMessage(), error.getMessage().contains("nothing"), true);
        }
    }

    static void fetchesInParts(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(500);
            int rows = 0;
            try (ResultSet found = statement.executeQuery("SELECT event_id FROM events")) {
                while (found.next()) {
                    rows++;
                }
            }
            check("fetched in parts", rows, 3000);
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void cancelsAndRefuses(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            statement.executeQuery("SELECT sum(value % 7) FROM generate_series(1, 100000000000000)");
            throw new AssertionError("it ended");
        } catch (SQLException error) {
            check("cancelled: " + error.getMessage(), error.getSQLState(), "57014");
        }
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("DELETE FROM events");
            throw new AssertionError("events were deleted");
        } catch (SQLException error) {
            check("refused: " + error.getMessage(), error.getSQLState(), "25006");
        }
    }

    // What tools that show a tree of tables ask for (DBeaver, Metabase).
    static void describes(Connection connection) throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        check("product", about.getDatabaseProductName(), "PostgreSQL");
        List<String> schemas = new ArrayList<>();
        try (ResultSet rows = about.getSchemas()) {
            while (rows.next()) {
                schemas.add(rows.getString("TABLE_SCHEM"));
            }
        }
        check("schemas " + schemas, schemas.contains("public"), true);
        Set<String> tables = new HashSet<>();
        try (ResultSet rows = about.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"})) {
            while (rows.next()) {
                tables.add(rows.getString("TABLE_NAME"));
            }
        }
        check("tables " + tables, tables.containsAll(List.of("events", "campaign_day")), true);
        Map<String, String> columns = new HashMap<>();
        try (ResultSet rows = about.getColumns(null, "public", "campaign_day", "%")) {
            while (rows.next()) {
                columns.put(rows.getString("COLUMN_NAME"), rows.getString("TYPE_NAME"));
            }
        }
        check("a column's type " + columns, columns.get("clicks"), "int8");
        check("a column's type " + columns, columns.get("bucket"), "timestamptz");
        // There are none: the answer is empty, and no error.
        hasNone(about.getPrimaryKeys(null, "public", "campaign_day"), "COLUMN_NAME");
        hasNone(about.getIndexInfo(null, "public", "campaign_day", false, false), "COLUMN_NAME");
        hasNone(about.getImportedKeys(null, "public", "campaign_day"), "FKCOLUMN_NAME");
        hasNone(about.getExportedKeys(null, "public", "campaign_day"), "FKCOLUMN_NAME");
        hasNone(about.getCrossReference(null, "public", "campaign_day", null, "public", "geo_day"), "FKCOLUMN_NAME");
    }

    static void hasNone(ResultSet rows, String column) throws SQLException {
        try (rows) {
            rows.findColumn(column);
            check("rows with " + column, rows.next(), false);
        }
    }

    public static void main(String[] arguments) throws SQLException {
        String url = arguments[0];
        try (Connection connection = connect(url)) {
            statements(connection);
            fetchesInParts(connection);
            cancelsAndRefuses(connection);
            describes(connection);
        }
        // As poolers need it: nothing stays on the server.
        try (Connection connection = connect(url, "preferQueryMode=simple")) {
            statements(connection);
        }
        System.out.println("all fine");
    }
}
