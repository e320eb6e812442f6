from django.db import migrations

REFUSE = """
CREATE FUNCTION timeline_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the timeline is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER timeline_no_change BEFORE UPDATE OR DELETE ON incidents_timelineentry
  FOR EACH ROW EXECUTE FUNCTION timeline_refuse();
CREATE TRIGGER timeline_no_truncate BEFORE TRUNCATE ON incidents_timelineentry
  FOR EACH STATEMENT EXECUTE FUNCTION timeline_refuse();
"""
ALLOW = """
DROP TRIGGER timeline_no_truncate ON incidents_timelineentry;
DROP TRIGGER timeline_no_change ON incidents_timelineentry;
DROP FUNCTION timeline_refuse();
"""


class Migration(migrations.Migration):
    """The database itself refuses to change, delete or empty timelines."""

    dependencies = [("incidents", "0001_initial")]

    operations = [migrations.RunSQL(REFUSE, ALLOW)]
